"""The synchronizer: keeps read models in step with the log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, NamedTuple, TypeVar, cast, overload

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
from twofold.generations import FRESH, LEDGER, SQL, Checkpoint, Generation, Place, prepare
from twofold.grouped_projection import GroupedProjection
from twofold.head import Head
from twofold.inline_projection import InlineProjection, attach, catch_up
from twofold.leases import segment_of
from twofold.live import LiveReadModel, LiveRows
from twofold.messages import event_type_of
from twofold.operations import ParkedEvent, PassedOver
from twofold.overlay import Overlay
from twofold.positions import Positions
from twofold.projection import Projection, ProjectionKind
from twofold.projectors import (
    GroupedProjector,
    KeyedProjector,
    Projector,
    ReactionProjector,
    SqlProjector,
    handed,
    key_text,
)
from twofold.read_database import ReadDatabase
from twofold.read_model import ReadModel
from twofold.rebuild_progress import RebuildProgress, follow_rebuild
from twofold.segments import slot_of
from twofold.sql_projection import Reaction, SqlProjection
from twofold.status import ProjectionStatus, lag_of, live_status, read_status, unknown_status
from twofold.tasks import end
from twofold.verify_rebuild import Report
from twofold.worker import LEASE, Worker

log = logging.getLogger(__name__)
R = TypeVar("R")

POLL = 1.0
"""Seconds after which a checkpoint is looked at, should the signal that it moved have been lost."""
PREPARING = 0.05
"""Seconds between two looks whether somebody has made a read model."""

Start = Literal["beginning", "now"]
ChangedCode = Literal["warn", "refuse", "ignore"]


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
        batch_size: events that are folded and committed together, at most, by default as many as suit the database;
            those that write SQL take fewer.
        lease: seconds after which another worker takes over from one that shows no sign of life.
        scratch: gives a database for the rows of a live projection, which closing it deletes.
        changed_code: what to do at the start about a projection whose code changed and whose version did not: `warn`,
            `refuse` or `ignore`.
    """

    def __init__(
        self,
        event_store: EventStore,
        read_db: ReadDatabase,
        projections: Iterable[Projection[Any] | SqlProjection | Reaction] = (),
        *,
        batch_size: int | None = None,
        lease: float = LEASE,
        scratch: Callable[[], ReadDatabase] | None = None,
        changed_code: ChangedCode = "warn",
    ) -> None:
        self._store = event_store
        self._read_db = read_db
        self._batch_size = batch_size
        self._lease = lease
        self._scratch = scratch
        self._changed_code = changed_code
        self._registered: dict[str, _Registered] = {}
        self._live: dict[str, LiveRows] = {}
        self._positions = Positions()
        self._workers: list[Worker] = []
        for projection in projections:
            self.add(projection)

    @overload
    def add(
        self,
        projection: Projection[R],
        *,
        kind: ProjectionKind = ...,
        start: Start | None = ...,
        database: ReadDatabase | None = ...,
    ) -> ReadModel[R]: ...
    @overload
    def add(
        self, projection: SqlProjection | Reaction, *, start: Start | None = ..., database: ReadDatabase | None = ...
    ) -> None: ...

    def add(
        self,
        projection: Any,
        *,
        kind: ProjectionKind = "asynchronous",
        start: Start | None = None,
        database: ReadDatabase | None = None,
    ) -> ReadModel[Any] | None:
        """Take on a projection; return its read model, to be queried, if it is a keyed one.

        Args:
            projection: what to run.
            kind: when the rows follow from the events: `asynchronous`, soon after the append; `inline`, in its
                transaction, so that a failure rejects the append; `live`, whenever somebody asks. The code of a keyed
                projection is the same for all three; others are asynchronous.
            start: whether it begins with the first event, as projections do, or with what comes after it was first
                added, as reactions do.
            database: where its read model is, if not in the synchronizer's own.

        Raises:
            InvalidProjectionError: it cannot work as it is declared, or its name is taken.
            InvalidMessageTypeError: an event that it handles cannot be stored as declared.
        """
        if projection.name in self._registered or projection.name in self._live:
            raise InvalidProjectionError(f"there are two projections named {projection.name!r}; rename one")
        if kind != "asynchronous" and not isinstance(projection, Projection):
            raise InvalidProjectionError(
                f"{projection.name} can be asynchronous only: it does not say which rows it changes"
            )
        if kind == "live":
            return self._add_live(projection, start, database)
        database = database or self._read_db
        projector = self._projector(database, projection, kind)
        self._check(projection, kind)
        if kind == "inline":
            attach(self._store.log, InlineProjection(cast(KeyedProjector, projector), self._store.events), database)
        begin: Start = start or ("now" if isinstance(projection, Reaction) else "beginning")
        place = Place(database, projector, FRESH if kind == "asynchronous" else 0.0)
        self._registered[projection.name] = _Registered(projector, database, place, begin)
        if not isinstance(projection, Projection):
            return None
        if isinstance(projection, GroupedProjection):
            return ReadModel(database, projection, place)
        overlay = Overlay(self._store, database, cast(KeyedProjector, projector), place)
        return ReadModel(database, projection, place, overlay)

    @property
    def databases(self) -> Sequence[ReadDatabase]:
        """All that it writes to, its own first; whoever owns the synchronizer opens and closes them."""
        return [database for database, _ in self._by_database()]

    async def prepare(self) -> None:
        """Make the read models' tables, or begin to build those of a new version; `run` does it too.

        Inline ones that serve are brought up to the head of the log, whatever time that takes.

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
            if registered.projector.kind == "inline":
                inline = InlineProjection(cast(KeyedProjector, registered.projector), self._store.events)
                await catch_up(registered.database, inline)

    async def close(self) -> None:
        """Throw away what live projections have folded; may be repeated."""
        for rows in self._live.values():
            await rows.close()

    async def run(self) -> None:
        """Keep all projections in step with the log, together with other processes, until cancelled.

        Raises:
            InvalidProjectionError, StorageError: as `prepare`.
        """
        await self.prepare()
        self._workers = [
            Worker(self._store, database, projectors, self._positions, self._ceiling, self._lease)
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
            await end(running)

    async def wait(self, position: int, timeout: float, projections: Collection[str] | None = None) -> None:
        """Wait until the projections (by default all) have passed a position, in whichever process they run.

        Live ones have passed whatever is in the log.

        Raises:
            StaleReadError: they had not after `timeout` seconds.
            UnknownProjectionError: there is none of that name.
            ReadModelBuildingError: one is being built, and what serves has other columns.
            StorageError: the database failed.
        """
        deadline = time.monotonic() + timeout
        names = list(self._registered) if projections is None else projections
        reached = await asyncio.gather(*(self._wait_for(name, position, deadline) for name in names))
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
        live = [live_status(rows.projector, head) for rows in self._live.values()]
        stored = [status for name, status in by_name.items() if name not in self._live]
        return [*own, *live, *stored]

    # -- see `twofold.consistency.Progress` ------------------------------------------------------------------------

    def projections(self) -> Collection[str]:
        """Return the names of the projections that have read models; what reactions did can be queried nowhere."""
        stored = [name for name, each in self._registered.items() if not isinstance(each.projector, ReactionProjector)]
        return [*stored, *self._live]

    def handled(self, projection: str) -> frozenset[str]:
        """Return the stored names, aliases included, of the types of events that a projection handles."""
        types = map(event_type_of, self._projector_of(projection).projection.handles())
        return frozenset(name for each in types for name in (each.name, *each.aliases))

    def max_lag(self, projection: str) -> timedelta | None:
        """Return how far behind the log a projection may be; None if that was not declared."""
        if projection in self._live:
            return None
        limit: timedelta | None = self._of(projection).projector.projection.max_lag
        return limit

    def reached(self, projection: str) -> int:
        """Return the position that a projection has passed for certain, as far as this process knows."""
        if projection in self._live:
            return self._positions.head(projection, 0).position
        generation = self._of(projection).place.known
        return self._positions.head(generation.name, generation.number).position if generation else 0

    async def lag(self, projection: str) -> timedelta:
        """Return the age of the oldest event that a projection still has to handle, 0 if there is none.

        Raises:
            StorageError: a database failed.
        """
        if projection in self._live:
            return timedelta()
        registered = self._of(projection)
        if self.reached(projection) >= await self._store.head():
            return timedelta()
        generation = await registered.place.find()
        place = {"name": generation.name, "generation": generation.number}
        rows = [Checkpoint(*row) for row in await registered.database.query(SQL["checkpoints_of"], **place)]
        return max([await lag_of(self._store, registered.projector, row) for row in rows], default=timedelta())

    async def head(self) -> int:
        """Return the head of the log.

        Raises:
            StorageError: the database failed.
        """
        return await self._store.head()

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
        await self._look_at(name)
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
            await transaction.lock(LEDGER)
            # the segments before the rows, as appends lock them
            await transaction.run(SQL["set_position"], name=name, generation=generation.number, position=0)
            await registered.projector.clear(transaction, generation.suffix)
            await transaction.run(SQL["forget_parked"], name=name, generation=generation.number)
        await self._look_at(name)
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
        """Leave an event out for ever that is parked or not yet reached; the later ones of its row are tried again.

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
            self._store, registered.database, {name: registered.projector}, self._positions, self._ceiling, self._lease
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

    def _projector(self, database: ReadDatabase, projection: Any, kind: ProjectionKind) -> Projector:
        match projection:
            case GroupedProjection():
                return GroupedProjector(database, projection, self._batch_size or database.batch_size, kind)
            case Projection():
                return KeyedProjector(database, projection, self._batch_size or database.batch_size, kind)
            case SqlProjection():
                return SqlProjector(database, projection, self._batch_size or database.batch_size)
            case Reaction():
                return ReactionProjector(database, projection)
        raise InvalidProjectionError(f"{projection!r} is no Projection, SqlProjection or Reaction")

    def _check(self, projection: Any, kind: ProjectionKind) -> None:
        """Refuse what cannot work, and make its events known."""
        if not projection.handles():
            raise InvalidProjectionError(f"{projection.name} handles no event; mark a method with @on(...)")
        for name in projection.follows:
            if name not in self._registered:
                raise InvalidProjectionError(f"{projection.name} follows {name!r}; add that one before it")
            other = self._registered[name].projector.kind
            if kind == "live" or (kind == "inline" and other != "inline"):
                raise InvalidProjectionError(
                    f"{projection.name} ({kind}) cannot follow {name} ({other}); make them of one kind, and not live"
                )
        self._store.events.register(*projection.handles())

    def _add_live(
        self, projection: Projection[Any], start: Start | None, database: ReadDatabase | None
    ) -> LiveReadModel[Any]:
        if start == "now" or database is not None:
            raise InvalidProjectionError(f"{projection.name} is folded from all events, and stored nowhere")
        if self._scratch is None:
            raise InvalidProjectionError(
                f"{projection.name} cannot be live; give the synchronizer `scratch=twofold.engines.scratch_database`"
            )
        self._check(projection, "live")
        scratch = self._scratch()
        projector = cast(KeyedProjector, self._projector(scratch, projection, "live"))
        rows = LiveRows(self._store, scratch, projector)
        self._live[projection.name] = rows
        return LiveReadModel(rows, projection)

    def _of(self, name: str) -> _Registered:
        """Return one that has a read model to be worked on."""
        if name in self._live:
            raise InvalidProjectionError(f"{name} is folded whenever somebody asks; there is nothing to be worked on")
        if name not in self._registered:
            raise UnknownProjectionError(name, self._registered)
        return self._registered[name]

    def _projector_of(self, name: str) -> Projector:
        return self._live[name].projector if name in self._live else self._of(name).projector

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

    async def _look_at(self, name: str) -> None:
        """Take note of where the segments of the generation that serves stand now."""
        registered = self._of(name)
        generation = await registered.place.find(again=True)
        for row in await registered.database.query(SQL["checkpoints_of"], name=name, generation=generation.number):
            checkpoint = Checkpoint(*row)
            self._positions.reached(segment_of(checkpoint), checkpoint.epoch, checkpoint.position)
        rows = await registered.database.query(SQL["position_of"], name=name, generation=generation.number)
        self._positions.head(name, generation.number).set_back(rows[0][0] or 0)  # whoever had moved it

    async def _wait_for_all(self, position: int) -> None:
        while True:
            try:
                await self.wait(position, 1.0)
            except StaleReadError:
                continue
            return

    async def _wait_for(self, name: str, position: int, deadline: float) -> int:
        if name not in self._live:
            return await self._wait(self._of(name), position, deadline)
        reached = self._positions.head(name, 0)
        if reached.position < position:  # whoever asks finds all that is in the log
            reached.advance(await self._store.log.wait(position - 1, max(deadline - time.monotonic(), 0)))
        if reached.position < position:
            reached.advance(await self._store.head())  # should the signal have been lost
        return reached.position

    async def _wait(self, registered: _Registered, position: int, deadline: float) -> int:
        """Wait for one projection, and return how far it has come."""
        again = False
        while True:
            remaining = deadline - time.monotonic()
            try:
                reached = await self._reached(registered, position, min(remaining, POLL), again=again)
            except (UnknownProjectionError, ReadModelBuildingError):
                if remaining <= 0:
                    raise
                reached = 0
                await asyncio.sleep(min(remaining, PREPARING))
            if reached >= position or remaining <= 0:
                return reached
            again = True  # another generation may have taken over

    async def _reached(self, registered: _Registered, position: int, patience: float, *, again: bool) -> int:
        """Return how far the generation that serves has come, after a while at most if that is not far enough."""
        generation = await registered.place.find(again=again)
        reached = self._positions.head(generation.name, generation.number)
        if registered.projector.kind == "inline":  # the append has told the database, and not us
            await self._look(registered, generation, reached, position)
        if reached.position < position:
            registered.database.follow(self._positions)
        if await reached.wait(position - 1, max(patience, 0)) < position:
            await self._look(registered, generation, reached, position)
        return reached.position

    async def _look(self, registered: _Registered, generation: Generation, reached: Head, position: int) -> None:
        """Look up how far a generation has come."""
        if reached.position < position:
            rows = await registered.database.query(
                SQL["position_of"], name=generation.name, generation=generation.number
            )
            reached.advance(rows[0][0] or 0)

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
