"""The synchronizer: keeps read models in step with the log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, overload

from twofold import operations, rebuild
from twofold.errors import (
    InvalidProjectionError,
    ReadModelBuildingError,
    RebuildFailedError,
    StaleReadError,
    UnknownProjectionError,
)
from twofold.event_query import EventQuery
from twofold.event_store import EventStore
from twofold.generations import LEDGER, SQL, Place, prepare
from twofold.operations import ParkedEvent, PassedOver
from twofold.progress import Progress
from twofold.projection import Projection
from twofold.projectors import KeyedProjector, Projector, ReactionProjector, SqlProjector, handed, key_text
from twofold.read_database import ReadDatabase
from twofold.read_model import ReadModel
from twofold.rebuild_progress import RebuildProgress, follow_rebuild
from twofold.segments import slot_of
from twofold.sql_projection import Reaction, SqlProjection
from twofold.status import ProjectionStatus, read_status, unknown_status
from twofold.verify_rebuild import Report
from twofold.worker import LEASE, Worker

log = logging.getLogger(__name__)
R = TypeVar("R")

ELSEWHERE = 0.05
"""Seconds between two looks at a checkpoint that another process may be moving."""

Start = Literal["beginning", "now"]


class _Registered(NamedTuple):
    projector: Projector
    database: ReadDatabase
    place: Place
    start: Start


class ReadModelSynchronizer:
    """Runs projections: reads the log from each one's checkpoint on, folds, and writes rows and checkpoint together.

    Any number of processes may run the same projections: they share the work. An event that fails again and again is
    set aside with the later ones of its row; it is never skipped. Killed at any point and started again, all goes on
    where it was, exactly.

    Args:
        event_store: where the events are.
        read_db: where the read models are.
        projections: what to run; more can be added until `run` is called.
        batch_size: events that are folded and committed together, at most.
        lease: seconds after which another worker takes over from one that shows no sign of life.
        changed_code: what to do at the start about a projection whose code changed and whose version did not: `warn`,
            `refuse` or `ignore`.
    """

    def __init__(
        self,
        event_store: EventStore,
        read_db: ReadDatabase,
        projections: Iterable[Projection[Any] | SqlProjection | Reaction] = (),
        *,
        batch_size: int = 1000,
        lease: float = LEASE,
        changed_code: Literal["warn", "refuse", "ignore"] = "warn",
    ) -> None:
        self._store = event_store
        self._read_db = read_db
        self._batch_size = batch_size
        self._lease = lease
        self._changed_code = changed_code
        self._registered: dict[str, _Registered] = {}
        self._progress = Progress()
        self._workers: list[Worker] = []
        for projection in projections:
            self.add(projection)

    @overload
    def add(
        self, projection: Projection[R], *, start: Start = ..., database: ReadDatabase | None = ...
    ) -> ReadModel[R]: ...
    @overload
    def add(
        self, projection: SqlProjection | Reaction, *, start: Start | None = ..., database: ReadDatabase | None = ...
    ) -> None: ...

    def add(
        self, projection: Any, *, start: Start | None = None, database: ReadDatabase | None = None
    ) -> ReadModel[Any] | None:
        """Take on a projection; return its read model, to be queried, if it is a keyed one.

        Args:
            projection: what to run.
            start: whether it begins with the first event, as projections do, or with what comes after it was first
                added, as reactions do.
            database: where its read model is, if not in the synchronizer's own.

        Raises:
            InvalidProjectionError: it cannot work as it is declared, or its name is taken.
            InvalidMessageTypeError: an event that it handles cannot be stored as declared.
        """
        database = database or self._read_db
        projector = self._projector(database, projection)
        if projection.name in self._registered:
            raise InvalidProjectionError(f"there are two projections named {projection.name!r}; rename one")
        if not projection.handles():
            raise InvalidProjectionError(f"{projection.name} handles no event; mark a method with @on(...)")
        if unknown := [name for name in projection.follows if name not in self._registered]:
            raise InvalidProjectionError(f"{projection.name} follows {unknown[0]!r}; add that one before it")
        self._store.events.register(*projection.handles())
        begin: Start = start or ("now" if isinstance(projection, Reaction) else "beginning")
        place = Place(database, projector)
        self._registered[projection.name] = _Registered(projector, database, place, begin)
        return ReadModel(database, projection, place) if isinstance(projection, Projection) else None

    async def prepare(self) -> None:
        """Make the read models' tables, or begin to build those of a new version; `run` does it too.

        Raises:
            InvalidProjectionError: a projection's rows changed and its version did not, or its code did and that is
                to be refused.
            StorageError: the database failed.
        """
        for registered in self._registered.values():
            start = await self._store.head() if registered.start == "now" else 0
            changed = await prepare(registered.database, registered.projector, start)
            if changed and self._changed_code != "ignore":
                self._complain(registered.projector, changed)

    async def run(self) -> None:
        """Keep all projections in step with the log, together with other processes, until cancelled.

        Raises:
            InvalidProjectionError, StorageError: as `prepare`.
        """
        await self.prepare()
        self._workers = [
            Worker(self._store, database, projectors, self._progress, self._ceiling, self._lease)
            for database, projectors in self._by_database()
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for worker in self._workers:
                    group.create_task(worker.run(), name="twofold-worker")
        finally:
            self._workers = []

    async def run_once(self, timeout: float | None = None) -> int:
        """Bring all projections up to the head of the log as it is now, and return that position.

        Raises:
            TimeoutError: they did not get there in time.
            InvalidProjectionError, StorageError: as `prepare`.
        """
        running = asyncio.create_task(self.run(), name="twofold-synchronizer-once")
        try:
            head = await self._store.head()
            async with asyncio.timeout(timeout):
                waiting = asyncio.create_task(self._wait_for_all(head))
                await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if running.done():
                    await running
            return head
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def wait(self, position: int, timeout: float, projections: Collection[str] | None = None) -> None:
        """Wait until the projections (by default all) have passed a position, in whichever process they run.

        Raises:
            StaleReadError: they had not after `timeout` seconds.
            UnknownProjectionError: there is none of that name.
            ReadModelBuildingError: one is being built, and what serves has other columns.
            StorageError: the database failed.
        """
        deadline = time.monotonic() + timeout
        names = list(self._registered if projections is None else projections)
        reached = await asyncio.gather(*(self._wait(self._of(name), position, deadline) for name in names))
        behind = {name: at for name, at in zip(names, reached, strict=True) if at < position}
        if behind:
            raise StaleReadError(position, behind)

    async def status(self) -> Sequence[ProjectionStatus]:
        """Return where all read models stand, by what their databases say: also those whose code is not here.

        Raises:
            StorageError: a database failed.
        """
        found = [await read_status(self._store, *each) for each in self._by_database()]
        by_name = {status.name: status for statuses in found for status in statuses}
        head = await self._store.head()
        own = [
            by_name.pop(name) if name in by_name else unknown_status(registered.projector, head)
            for name, registered in self._registered.items()
        ]
        return [*own, *by_name.values()]

    # -- operations -------------------------------------------------------------------------------------------------

    async def pause(self, name: str) -> None:
        """Let a read model stand still from now on; see `twofold.operations.pause`."""
        await operations.pause(self._of(name).database, name)
        self._poke()

    async def resume(self, name: str) -> None:
        """Let a read model go on that was paused."""
        await operations.resume(self._of(name).database, name)
        self._poke()

    async def set_position(self, name: str, position: int) -> None:
        """Let a read model go on behind a position; its rows stay as they are."""
        await operations.set_position(self._of(name).database, name, position)
        self._progress.forget(name)
        self._poke()

    async def reset(self, name: str) -> None:
        """Empty a read model in place and let it begin again; to keep it serving, use `rebuild_projection`.

        Raises:
            UnknownProjectionError: there is none of this name.
            StorageError: the database failed.
        """
        registered = self._of(name)
        generation = await registered.place.find(again=True)
        async with registered.database.transaction(registered.projector.style) as transaction:
            await transaction.lock(name)
            await registered.projector.drop(transaction, generation.suffix)
            await registered.projector.make(transaction, generation.suffix)
            await registered.projector.expose(transaction, generation.suffix)
            await transaction.lock(LEDGER)
            for statement in ("set_position", "forget_parked"):
                await transaction.run(SQL[statement], name=name, generation=generation.number, position=0)
        self._progress.forget(name)
        self._poke()

    async def scale(self, name: str, segments: int) -> None:
        """Divide a read model into so many segments, on which as many workers can work."""
        await operations.scale(self._of(name).database, name, segments)
        self._poke()

    async def parked(self, name: str, *, limit: int = 1000) -> Sequence[ParkedEvent]:
        """Return the events that are set aside, in order."""
        return await operations.parked(self._of(name).database, name, limit=limit)

    async def passed_over(self, name: str) -> Sequence[PassedOver]:
        """Return the events that somebody decided to leave out, with the reasons."""
        return await operations.passed_over(self._of(name).database, name)

    async def retry(self, name: str, *key: Any) -> int:
        """Have the parked events of one row, or of all, tried again; return how many there are."""
        text = key_text(key) if key else operations.ALL_KEYS
        asked = await operations.retry(self._of(name).database, name, text)
        self._poke()
        return asked

    async def skip(self, name: str, position: int, *, reason: str) -> None:
        """Leave an event out for ever that is parked or not yet reached, and have the later ones of its row tried again.

        Raises:
            ValueError: there is no reason, or the event has come in already.
            UnknownProjectionError: there is none of this name.
            StorageError: the database failed.
        """
        registered = self._of(name)
        slot = await self._slot(registered.projector, position)
        await operations.skip(registered.database, name, position, reason, slot=slot)
        self._poke()

    async def discard(self, name: str, *key: Any, reason: str) -> int:
        """Leave all parked events of a row out for ever; return how many there were."""
        discarded = await operations.discard(self._of(name).database, name, key_text(key), reason)
        self._poke()
        return discarded

    # -- rebuilds ---------------------------------------------------------------------------------------------------

    async def rebuild_projection(
        self,
        name: str,
        *,
        expect_same: bool = False,
        progress: Callable[[RebuildProgress], object] = lambda _: None,
    ) -> Report:
        """Build a read model anew beside the one that serves, verify it, and let it take over in one transaction.

        All workers share the work, and go on with it should this process die or be cancelled; calling it again joins
        what is under way. Some worker must run, here or elsewhere.

        Args:
            name: the projection.
            expect_same: whether any difference to the rows that serve is a fault.
            progress: told now and then how far it has come.

        Raises:
            RebuildFailedError: the new rows did not pass the verification; the earlier ones serve on.
            UnknownProjectionError: there is none of this name.
            InvalidProjectionError: it is a reaction.
            StorageError: the database failed.
        """
        registered = self._of(name)
        generation = await rebuild.begin(registered.database, registered.projector, expect_same=expect_same)
        self._poke()
        report = await follow_rebuild(self._store, registered.database, generation, progress)
        registered.place.forget()
        if report.reason:
            raise RebuildFailedError(name, report.reason)
        return report

    async def cancel_rebuild(self, name: str) -> bool:
        """Drop what is being built; return whether anything was."""
        cancelled = await rebuild.cancel(self._of(name).database, self._of(name).projector)
        self._poke()
        return cancelled

    async def roll_back(self, name: str) -> None:
        """Let the generation that served before the last rebuild serve again; the present one is kept warm.

        Raises:
            RebuildFailedError: none was kept, or it is of another version of the code.
            StorageError: the database failed.
        """
        registered = self._of(name)
        worker = Worker(
            self._store, registered.database, {name: registered.projector}, self._progress, self._ceiling, self._lease
        )
        await worker.takeover(registered.projector).roll_back(name)
        registered.place.forget()
        self._poke()

    async def drop_warm(self, name: str) -> bool:
        """Drop the generation that is kept for a roll-back; return whether there was one."""
        dropped = await rebuild.drop_warm(self._of(name).database, self._of(name).projector)
        self._poke()
        return dropped

    # ---------------------------------------------------------------------------------------------------------------

    def _projector(self, database: ReadDatabase, projection: Any) -> Projector:
        match projection:
            case Projection():
                return KeyedProjector(database, projection, self._batch_size)
            case SqlProjection():
                return SqlProjector(database, projection, self._batch_size)
            case Reaction():
                return ReactionProjector(database, projection)
        raise InvalidProjectionError(f"{projection!r} is no Projection, SqlProjection or Reaction")

    def _of(self, name: str) -> _Registered:
        if name not in self._registered:
            raise UnknownProjectionError(name, self._registered)
        return self._registered[name]

    def _by_database(self) -> list[tuple[ReadDatabase, Mapping[str, Projector]]]:
        found: dict[int, tuple[ReadDatabase, dict[str, Projector]]] = {id(self._read_db): (self._read_db, {})}
        for name, registered in self._registered.items():
            found.setdefault(id(registered.database), (registered.database, {}))[1][name] = registered.projector
        return [(database, projectors) for database, projectors in found.values()]

    async def _slot(self, projector: Projector, position: int) -> int | None:
        """Return the slot of an event, None if it cannot be known."""
        query = EventQuery.of(*projector.projection.handles())
        rows = await self._store.log.read(query, after=position - 1, before=position + 1, limit=1)
        try:
            return slot_of(handed(projector, self._store.events.decode(rows)[0]).text)
        except Exception:  # that may be why it is to be left out
            return None

    def _poke(self) -> None:
        for worker in self._workers:
            worker.poke()

    async def _wait_for_all(self, position: int) -> None:
        while True:
            try:
                await self.wait(position, 1.0)
            except StaleReadError:
                continue
            return

    async def _wait(self, registered: _Registered, position: int, deadline: float) -> int:
        """Wait for one projection, and return how far it has come."""
        again = False
        while True:
            remaining = deadline - time.monotonic()
            try:
                reached = await self._reached(registered, position, min(remaining, ELSEWHERE), again=again)
            except (UnknownProjectionError, ReadModelBuildingError):
                if remaining <= 0:
                    raise
                reached = 0
                await asyncio.sleep(min(remaining, ELSEWHERE))
            if reached >= position or remaining <= 0:
                return reached
            again = True  # another generation may have taken over

    async def _reached(self, registered: _Registered, position: int, patience: float, *, again: bool) -> int:
        """Return how far the generation that serves has come, after a while at most if that is not far enough."""
        generation = await registered.place.find(again=again)
        reached = self._progress.head(generation.name, generation.number)
        if await reached.wait(position - 1, max(patience, 0)) < position:
            rows = await registered.database.query(
                SQL["position_of"], name=generation.name, generation=generation.number
            )
            reached.advance(rows[0][0] or 0)
        return reached.position

    async def _ceiling(self, projector: Projector, after: int, timeout: float) -> int:
        """Wait until there is more in the log, and until the projections that it follows have handled that."""
        deadline = time.monotonic() + timeout
        head = await self._store.log.wait(after, timeout)
        if head <= after:
            head = await self._store.head()  # should the signal have been lost
        for name in projector.projection.follows if head > after else ():
            head = min(head, await self._wait(self._of(name), after + 1, deadline))
        return head

    def _complain(self, projector: Projector, changed: Sequence[str]) -> None:
        text = (
            f"the code of {projector.name} changed ({', '.join(changed)}) and its version did not: what is stored may "
            f"differ from what it would make now. Raise `version`, or call rebuild_projection({projector.name!r})"
        )
        if self._changed_code == "refuse":
            raise InvalidProjectionError(text)
        log.warning("%s", text)
