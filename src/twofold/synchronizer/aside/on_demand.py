"""Read models on demand: nothing is stored for good, the rows are folded when a question needs them."""

from __future__ import annotations

import time
from datetime import timedelta

from twofold.errors import CheckpointMovedError, HistoryChangedError
from twofold.log.chunks import mark_at
from twofold.log.event_store import EventStore
from twofold.messages.event import stored_names
from twofold.messages.read_policy import ReadPolicy
from twofold.ports.checkpoints import SQL, Generation
from twofold.ports.read_database import ReadDatabase
from twofold.ports.turns import Turns
from twofold.ports.watermark import Watermark
from twofold.projections.runner import RowRunner
from twofold.queries.consistency import AtHand
from twofold.queries.serving import Serving
from twofold.synchronizer.aside.scratch import failure_at, make_generation, only_segment
from twofold.synchronizer.segments.runner import SegmentRunner


class OnDemandRows:
    """The rows of a projection on demand, in a database that this process has for itself and deletes.

    The first question folds the log from its beginning, each later one what was appended since. An event that cannot
    be folded concerns the questions about its row, and those about several rows: they are refused. To queries, it is a
    `twofold.queries.consistency.Progress` that is never late.

    Args:
        store: where the events are.
        database: where the rows are; it is opened by the first question.
        runner: what folds them.
    """

    def __init__(self, store: EventStore, database: ReadDatabase, runner: RowRunner) -> None:
        self.name = runner.name
        self.handled = stored_names(runner.projection.handles())
        self.database = database
        self.runner = runner
        self._store = store
        self._head = Watermark()
        self._updating = Turns()
        self._segment_runner: SegmentRunner | None = None
        self._generation: Generation | None = None
        self._is_outdated = False

    @property
    def position(self) -> int:
        """The position up to which the rows have been folded."""
        return self._segment_runner.position if self._segment_runner else 0

    async def fault(self) -> str:
        """Return nothing: what fails is raised to who asks."""
        return ""

    @property
    def policy(self) -> ReadPolicy | None:
        return self.runner.projection.policy

    @property
    def reached(self) -> int:
        """The position that every answer shows: that of the log, as far as this process knows."""
        return max(self.position, self._head.position)

    def at_hand(self) -> AtHand | None:
        """Return None: each question brings the rows up to the head of the log first."""
        return None

    async def find(self) -> Serving:
        """Bring the rows up to the head of the log, and return where they are.

        Raises:
            ProjectionFailedError: an event holds up all rows.
            StorageError: a database failed.
            Exception: an event cannot be read.
        """
        async with self._updating:
            while True:
                await self._forget_rows()
                generation = self._generation or await self._open()
                segment_runner = self._segment_runner = self._segment_runner or only_segment(
                    self._store, self.database, self.runner, generation
                )
                try:
                    await self._catch_up(segment_runner)
                except CheckpointMovedError:  # by a question that was cancelled, or the log has another history now
                    continue
                except HistoryChangedError:
                    await self._throw_away()
                else:
                    return Serving(generation, segment_runner.position, segment_runner.has_parked)

    async def _catch_up(self, segment_runner: SegmentRunner) -> None:
        """Fold what was appended; a log of another history is told from one that has not grown, even at one length."""
        head = await mark_at(self._store.log, segment_runner.mark)
        if head.position > segment_runner.position:
            await segment_runner.catch_up(head.position)

    async def approach(self, position: int, deadline: float, poll: float | None = None) -> Serving:
        serving = await self.find()
        if serving.position < position and await self.wait(position, deadline) >= position:
            serving = await self.find()
        return serving

    async def wait(self, position: int, deadline: float) -> int:
        if self._head.position < position:
            self._head.advance(await self._store.log.wait(position - 1, max(deadline - time.monotonic(), 0)))
        if self._head.position < position:
            self._head.advance(await self._store.head())  # should the signal have been lost
        return self._head.position

    def correct(self, serving: Serving, position: int) -> None:
        """Do nothing: each question finds out how far the rows are."""

    async def still_serves(self, serving: Serving) -> bool:
        return True

    async def misses_nothing(self, position: int, end: int) -> bool:
        return True

    async def compare(self, position: int) -> None:
        await self._store.known_positions.compare(position)

    async def lag(self) -> timedelta:
        return timedelta()

    async def is_late(self) -> bool:
        return False

    async def head(self) -> int:
        return await self._store.head()

    async def refuse_parked(self, key: str) -> None:
        """Refuse to answer while an event of a row, or without a key of any, could not be folded.

        Raises:
            ProjectionFailedError: so it is.
        """
        if self._generation is None:
            return
        place = {"name": self.name, "generation": self._generation.number}
        if key:
            found = [row[:2] for row in await self.database.query(SQL["parked_of"], **place, key=key)]
        else:
            found = [(row[0], row[4]) for row in await self.database.query(SQL["parked"], **place, limit=1)]
        for position, cause in found[:1]:
            raise await failure_at(self._store, self.runner, position, cause)

    async def close(self) -> None:
        """Delete the rows; the next question folds them from the beginning."""
        async with self._updating.lock:
            await self._throw_away()

    def invalidate(self) -> None:
        """Fold the rows from the beginning at the next question: a person was forgotten."""
        self._is_outdated = True

    async def _forget_rows(self) -> None:
        """Throw the rows away if they may hold what is forgotten."""
        if (keys := self._store.keys) is not None:
            keys.refresh()
        if self._is_outdated:
            self._is_outdated = False
            await self._throw_away()

    async def _throw_away(self) -> None:
        self._segment_runner = self._generation = None
        await self.database.close()

    async def _open(self) -> Generation:
        self._generation = await make_generation(self.database, self.runner)
        return self._generation
