"""Projections on demand: nothing is stored for good, the rows are folded when a question is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from twofold.errors import CheckpointMovedError, HistoryChangedError, ProjectionFailedError
from twofold.log.chunks import mark_at
from twofold.log.event_store import EventStore
from twofold.messages.event_query import EventQuery
from twofold.options import SynchronizerOptions
from twofold.ports.checkpoints import SQL, Generation, generations_of
from twofold.ports.read_database import ReadDatabase
from twofold.ports.segments import Segment
from twofold.ports.table import Table
from twofold.ports.watermark import Head
from twofold.projections.folding import key_text
from twofold.projections.projection import Projection
from twofold.projections.runner import RowRunner
from twofold.queries.read_model import ReadModel
from twofold.synchronizer.generations import prepare
from twofold.synchronizer.segment_runner import SegmentRunner

R = TypeVar("R")
T = TypeVar("T")


class OnDemandRows:
    """The rows of a projection that is folded on demand, in a database of this process alone, which is not kept.

    The first question folds the log from its beginning, each later one what was appended since.

    Args:
        store: where the events are.
        database: where the rows are; it is opened by the first question.
        runner: what folds them.
    """

    def __init__(self, store: EventStore, database: ReadDatabase, runner: RowRunner) -> None:
        self.database = database
        self.runner = runner
        self._store = store
        self._options = SynchronizerOptions()
        self._head = Head()
        self._updating = asyncio.Lock()
        self._segment_runner: SegmentRunner | None = None
        self._generation: Generation | None = None

    @property
    def position(self) -> int:
        """Up to here they have been folded."""
        return self._segment_runner.position if self._segment_runner else 0

    @property
    def reached(self) -> int:
        """The position that they have passed for certain: whoever asks finds all that is in the log."""
        return self._head.position

    async def lag(self) -> timedelta:
        """See `Standing.lag`."""
        return timedelta()

    async def wait(self, position: int, deadline: float) -> int:
        """See `Standing.wait`."""
        if self._head.position < position:
            self._head.advance(await self._store.log.wait(position - 1, max(deadline - time.monotonic(), 0)))
        if self._head.position < position:
            self._head.advance(await self._store.head())  # should the signal have been lost
        return self._head.position

    async def find(self, *, again: bool = False) -> Generation:
        """Bring the rows up to the head of the log, and return where they are; see `Places.find`.

        Raises:
            ProjectionFailedError: an event holds up all rows.
            StorageError: a database failed.
            Exception: an event cannot be read.
        """
        async with self._updating:
            while True:
                generation = self._generation or await self._open()
                segment_runner = self._segment_runner = self._segment_runner or self._run(generation)
                try:
                    await self._catch_up(segment_runner)
                except CheckpointMovedError:  # by a question that was cancelled, or the log has another history now
                    continue
                except HistoryChangedError:
                    await self._throw_away()
                else:
                    return generation

    async def _catch_up(self, segment_runner: SegmentRunner) -> None:
        """Fold what was appended; a log of another history is told from one that has not grown, even at one length."""
        head = await mark_at(self._store.log, segment_runner.mark)
        if head.position > segment_runner.position:
            await segment_runner.catch_up(head.position)

    async def refuse_failed(self, *key: Any) -> None:
        """Refuse to answer if an event of a row, or without a key of any, could not be folded.

        Raises:
            ProjectionFailedError: so it is.
        """
        if self._segment_runner is None or not self._segment_runner.has_parked:
            return
        place = {"name": self.runner.name, "generation": self._segment_runner.segment.generation}
        if key:
            found = [row[:2] for row in await self.database.query(SQL["parked_of"], **place, key=key_text(key))]
        else:
            found = [(row[0], row[3]) for row in await self.database.query(SQL["parked"], **place, limit=1)]
        for position, cause in found[:1]:
            rows = await self._store.log.read(EventQuery.all(), after=position - 1, before=position + 1, limit=1)
            raise ProjectionFailedError(self.runner.name, self._store.events.decode(rows)[0], cause)

    async def close(self) -> None:
        """Throw the rows away; the next question begins anew."""
        async with self._updating:
            await self._throw_away()

    async def _throw_away(self) -> None:
        self._segment_runner = self._generation = None
        await self.database.close()

    async def _open(self) -> Generation:
        await self.database.open()
        await prepare(self.database, self.runner)
        async with self.database.transaction() as transaction:
            [self._generation] = await generations_of(transaction, self.runner.name)
        return self._generation

    def _run(self, generation: Generation) -> SegmentRunner:
        segment = Segment(generation.name, generation.number)
        return SegmentRunner(
            self._store,
            self.database,
            self.runner,
            generation.suffix,
            segment,
            "",
            self._options,
            _reached,
            _head,
        )


class OnDemandReadModel(ReadModel[R]):
    """Answers questions about a projection on demand, as of the moment when they are asked.

    An event that cannot be folded concerns those who ask for its row, and those who ask for several rows.
    """

    def __init__(self, rows: OnDemandRows, projection: Projection[R]) -> None:
        super().__init__(rows.database, projection, rows)
        self._folded = rows

    async def get(self, *key: Any) -> R | None:
        """See `ReadModel.get`.

        Raises:
            ProjectionFailedError: an event of this row cannot be folded.
        """
        wanted = [self._rows.dump_key(key)]
        table = await self._where()
        await self._folded.refuse_failed(*key)
        found = await self._database.load(table, wanted)
        return self._rows.load(found[0]) if found else None

    async def _ask(self, question: Callable[[Table], Awaitable[T]]) -> T:
        table = await self._where()
        await self._folded.refuse_failed()
        return await question(table)


def _reached(segment: Segment, epoch: int, position: int) -> None:
    """Nobody waits for what is up to date whenever it is asked."""


async def _head(after: int, timeout: float) -> int:
    raise AssertionError("it does not follow the log")
