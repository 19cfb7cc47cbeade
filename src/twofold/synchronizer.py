"""The synchronizer: keeps read models in step with the log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import Any, TypeVar

from twofold.errors import (
    CheckpointMovedError,
    InvalidProjectionError,
    ProjectionFailedError,
    StaleReadError,
    StorageUnavailableError,
)
from twofold.event_query import EventQuery
from twofold.event_store import EventStore
from twofold.head import Head
from twofold.projection import Folded, Projection, fold, keys_of
from twofold.read_database import Checkpoint, ReadDatabase
from twofold.read_model import ReadModel
from twofold.subscription import Batch, Subscription
from twofold.telemetry import trace_batch

log = logging.getLogger(__name__)
R = TypeVar("R")

FIRST_PAUSE, LAST_PAUSE = 0.1, 30.0
"""Seconds before a failed step is tried again, doubled from the first to the last."""
IDLE_SAVE = 0.25
"""Seconds between two saves of a checkpoint that moves only over events which the projection does not handle."""
ELSEWHERE = 0.05
"""Seconds between two looks at a checkpoint that another process may be moving."""


class State(StrEnum):
    """Where a projection is in its life."""

    NEW = "new"
    CATCHING_UP = "catching up"
    LIVE = "live"
    FAULTED = "faulted"


@dataclass(frozen=True)
class ProjectionStatus:
    """How far a projection has come. It is healthy if it is live, or moves; a faulted one tells what holds it up."""

    name: str
    version: int
    state: State
    position: int
    head: int
    error: str | None = None

    @property
    def behind(self) -> int:
        """Number of positions between the checkpoint and the head of the log."""
        return self.head - self.position


class ReadModelSynchronizer:
    """Runs projections: reads the log from each one's checkpoint on, folds, and writes rows and checkpoint together.

    An event that cannot be folded stops its projection, visibly, and is tried again with growing pauses; it is never
    skipped. Other projections go on. Killed at any point and started again, it goes on where it was, exactly.

    Args:
        event_store: where the events are.
        read_db: where the read models are.
        projections: what to run; more can be added until `run` is called.
        batch_size: events that are folded and committed together, at most.
    """

    def __init__(
        self,
        event_store: EventStore,
        read_db: ReadDatabase,
        projections: Iterable[Projection[Any]] = (),
        *,
        batch_size: int = 1000,
    ) -> None:
        self._store = event_store
        self._read_db = read_db
        self._batch_size = batch_size
        self._workers: dict[str, _Worker] = {}
        for projection in projections:
            self.add(projection)

    def add(self, projection: Projection[R]) -> ReadModel[R]:
        """Take on a projection and return its read model, to be queried.

        Raises:
            InvalidProjectionError: it cannot work as it is declared, or its name is taken.
            InvalidMessageTypeError: an event that it handles cannot be stored as declared.
        """
        read_model = ReadModel(self._read_db, projection)
        if projection.name in self._workers:
            raise InvalidProjectionError(f"there are two projections named {projection.name!r}; rename one")
        if not projection.handles():
            raise InvalidProjectionError(f"{projection.name} handles no event; mark a method with @on(...)")
        self._store.events.register(*projection.handles())
        self._workers[projection.name] = _Worker(self._store, self._read_db, projection, self._batch_size)
        return read_model

    async def prepare(self) -> None:
        """Make the read models' tables, or make them anew for a new version; `run` does it too.

        Raises:
            InvalidProjectionError: a projection's rows changed and its version did not.
            StorageError: the database failed.
        """
        for worker in self._workers.values():
            await worker.prepare()

    async def run(self) -> None:
        """Keep all projections in step with the log, until cancelled.

        Raises:
            InvalidProjectionError, StorageError: as `prepare`.
        """
        await self.prepare()
        async with asyncio.TaskGroup() as group:
            for name, worker in self._workers.items():
                group.create_task(worker.run(), name=f"twofold-projection-{name}")

    async def wait(self, position: int, timeout: float, projections: Collection[str] | None = None) -> None:
        """Wait until the projections (by default all) have passed a position, in whichever process they run.

        Raises:
            StaleReadError: they had not after `timeout` seconds.
            StorageError: the database failed.
        """
        deadline = time.monotonic() + timeout
        names = self._workers if projections is None else projections
        await asyncio.gather(*(self._workers[name].wait(position, deadline) for name in names))
        behind = {name: at for name in names if (at := self._workers[name].reached.position) < position}
        if behind:
            raise StaleReadError(position, behind)

    async def status(self) -> Sequence[ProjectionStatus]:
        """Return how far each projection has come, by the checkpoints in the database.

        Raises:
            StorageError: the database failed.
        """
        head = await self._store.head()
        return [await worker.status(head) for worker in self._workers.values()]


class _Worker:
    """Runs one projection."""

    def __init__(self, store: EventStore, read_db: ReadDatabase, projection: Projection[Any], batch_size: int) -> None:
        self._store = store
        self._read_db = read_db
        self._projection = projection
        self._table = projection.table()
        self._rows = projection.row_type()
        self._batch_size = batch_size
        self._state = State.NEW
        self._error: str | None = None
        self._saved = self._passed = 0
        self._saved_at = 0.0
        self.reached = Head()

    async def prepare(self) -> None:
        await self._read_db.prepare(self._table, self._projection.version)

    async def run(self) -> None:
        pause, careful = FIRST_PAUSE, False
        while True:
            before = self._saved
            try:
                await self._follow(careful=careful)
                careful = False
            except CheckpointMovedError as moved:
                log.info("%s; going on from there", moved)
            except Exception as error:
                self._state, self._error = State.FAULTED, _describe(error)
                if not isinstance(error, StorageUnavailableError):
                    careful = True
                    log.exception("projection %s stands still, next try in %.1f s", self._projection.name, pause)
                pause = FIRST_PAUSE if self._saved > before else min(pause * 2, LAST_PAUSE)
                await asyncio.sleep(pause)

    async def _follow(self, *, careful: bool) -> None:
        """Project batch after batch; after a failure, for one batch's length, event after event, to stop exactly there.

        The table is prepared again, should a newer version of the projection have taken it over meanwhile.
        """
        await self.prepare()
        self._saved = self._passed = await self._read_db.checkpoint(self._projection.name)
        self.reached.advance(self._saved)
        if self._state is State.NEW:
            self._state = State.LIVE if self._saved >= await self._store.head() else State.CATCHING_UP
        query, size = EventQuery.of(*self._projection.handles()), 1 if careful else self._batch_size
        subscription = self._store.subscribe(query, after=self._saved, batch_size=size)
        for step in count(1):
            batch = await self._next(subscription)
            await self._handle(batch)
            self._state = State.CATCHING_UP if len(batch.events) == self._batch_size else State.LIVE
            self._error = None
            if careful and step == self._batch_size:
                return

    async def _next(self, subscription: Subscription) -> Batch:
        """Return the next batch; while waiting, save a checkpoint that has moved over other projections' events."""
        if self._passed <= self._saved:
            return await anext(subscription)
        coming = asyncio.ensure_future(anext(subscription))
        try:
            done, _ = await asyncio.wait([coming], timeout=max(self._saved_at + IDLE_SAVE - time.monotonic(), 0))
            if not done:
                await self._commit(Folded({}), self._passed)
            return await coming
        finally:
            coming.cancel()

    async def _handle(self, batch: Batch) -> None:
        if not batch.events and time.monotonic() < self._saved_at + IDLE_SAVE:
            self._passed = batch.position  # a crash only skips the same events again
            self.reached.advance(batch.position)
            return
        with trace_batch(self._projection.name, len(batch.events), batch.position):
            await self._project(batch)

    async def _project(self, batch: Batch) -> None:
        keys = keys_of(self._projection, batch.events)
        wanted = {self._rows.dump_key(key) for key in keys}
        loaded = map(self._rows.load, await self._read_db.load(self._table, wanted))
        folded = fold(self._projection, {self._rows.key_of(row): row for row in loaded}, keys, batch.events)
        try:
            await self._commit(folded, folded.failed.position - 1 if folded.failed else batch.position)
        except (CheckpointMovedError, StorageUnavailableError):
            raise
        except Exception as error:
            if len(batch.events) != 1 or folded.failed:
                raise  # the next try finds out which event's row it is that cannot be stored
            raise ProjectionFailedError(self._projection.name, batch.events[0]) from error
        if folded.failed:
            raise ProjectionFailedError(self._projection.name, folded.failed) from folded.error

    async def _commit(self, folded: Folded, position: int) -> None:
        upserts = [self._rows.dump(row) for row in folded.rows.values() if row is not None]
        deletes = [self._rows.dump_key(key) for key, row in folded.rows.items() if row is None]
        step = Checkpoint(self._projection.name, self._projection.version, self._saved, position)
        await self._read_db.commit(self._table, upserts, deletes, step)
        self._saved, self._passed, self._saved_at = position, position, time.monotonic()
        self.reached.advance(position)

    async def wait(self, position: int, deadline: float) -> None:
        while (remaining := deadline - time.monotonic()) > 0:
            if await self.reached.wait(position - 1, min(remaining, ELSEWHERE)) >= position:
                return
            self.reached.advance(await self._read_db.checkpoint(self._projection.name))

    async def status(self, head: int) -> ProjectionStatus:
        position = max(self.reached.position, await self._read_db.checkpoint(self._projection.name))
        return ProjectionStatus(
            self._projection.name, self._projection.version, self._state, position, max(head, position), self._error
        )


def _describe(error: Exception) -> str:
    return f"{error}: {error.__cause__!r}" if isinstance(error, ProjectionFailedError) else str(error)
