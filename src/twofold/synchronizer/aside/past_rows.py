"""The rows of a read model as of an earlier moment: folded from the log by today's code, beside those that serve.

Of one row, its own events are found by their tags, or by their types where no tag holds its key, and folded up to the
moment. A whole read model is folded up to it in a temporary file of the process.

What comes out is what the read model showed when the log ended there, with the code and the skips of today. So it is
refused where that cannot be said: an event fails, rows follow from those of other projections, or the read model did
not begin with the first event.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from twofold.errors import PastUnknownError, ProjectionFailedError
from twofold.log.chunks import Rows
from twofold.log.event_store import EventStore
from twofold.log.folding.as_of import AsOf
from twofold.messages.position import Position
from twofold.options import QueryOptions
from twofold.ports.checkpoints import SQL, Generation
from twofold.ports.read_database import ReadDatabase
from twofold.ports.segments import Segment
from twofold.projections.keys.keyed_event import FailedEvent
from twofold.projections.kinds import ON_DEMAND, runner_of
from twofold.projections.projection import KeyValues
from twofold.projections.runner import RowRunner, Start
from twofold.queries.read_model import ReadModel
from twofold.synchronizer.aside.events_of_rows import queries_of
from twofold.synchronizer.aside.fresh_rows import fresh_rows
from twofold.synchronizer.aside.scratch import failure_at, make_generation, only_segment


class PastRows:
    """Tells what a read model showed at earlier moments; a `twofold.queries.read_model.Past`.

    Args:
        store: where the events are.
        database: where the read model is, with its skips.
        runner: the projection's code.
        start: the event that it began with.
        scratch: gives the database for a whole read model.
        options: how many events are looked through for one row.
    """

    def __init__(
        self,
        store: EventStore,
        database: ReadDatabase,
        runner: RowRunner,
        start: Start,
        scratch: Callable[[], ReadDatabase] | None,
        options: QueryOptions = QueryOptions(),  # noqa: B008 - it is immutable
    ) -> None:
        self._store = store
        self._database = database
        self._runner = runner
        self._start = start
        self._scratch = scratch
        self._options = options

    async def row(self, key: KeyValues, as_of: AsOf) -> Any:
        """Return the row with a key as of a moment, or None."""
        self._refuse_untold()
        position = await self._store.position_at(as_of)
        queries = await queries_of(self._store, self._runner, {self._runner.projection.events_key(key)}, 1)
        count = 0

        def look(rows: Rows, failures: Sequence[FailedEvent]) -> None:
            nonlocal count
            count += len(rows)
            for failed in failures:
                raise ProjectionFailedError(self._runner.name, failed.keyed.recorded) from failed.error
            if count > self._options.as_of_events:
                raise self._too_many()

        rows = await fresh_rows(self._store, self._database, self._runner, queries, position, look)
        return rows.get(key)

    @asynccontextmanager
    async def model(self, as_of: AsOf, progress: Callable[[int, int], object]) -> AsyncIterator[ReadModel[Any]]:
        """Fold the whole read model as of a moment, and throw it away when the block ends."""
        self._refuse_untold()
        if self._scratch is None:
            remedy = "give the synchronizer `scratch=twofold.engines.scratch_database`"
            raise PastUnknownError(self._runner.name, f"there is no place for its rows; {remedy}")
        position, scratch = await self._store.position_at(as_of), self._scratch()
        projection, folding = self._runner.projection, self._runner.folding
        runner = runner_of(projection, scratch, self._runner.batch_size, ON_DEMAND, folding).rows
        assert runner is not None  # noqa: S101 - the same projection as that of a runner with rows
        try:
            generation = await make_generation(scratch, runner)
            await self._carry_skips(scratch)
            await self._fold(scratch, runner, generation, position, progress)
            yield ReadModel(scratch, projection, generation=generation, options=self._options)
        finally:
            await scratch.close()

    async def _fold(
        self,
        scratch: ReadDatabase,
        runner: RowRunner,
        generation: Generation,
        position: Position,
        progress: Callable[[int, int], object],
    ) -> None:
        def reached(segment: Segment, epoch: int, folded: int, held_back: str) -> None:
            progress(folded, position)

        await only_segment(self._store, scratch, runner, generation, reached).catch_up(position)
        place = {"name": runner.name, "generation": generation.number}
        for failed in await scratch.query(SQL["parked"], **place, limit=1):
            raise await failure_at(self._store, self._runner, failed[0], failed[4])

    async def _carry_skips(self, scratch: ReadDatabase) -> None:
        skipped = await self._database.query(SQL["skipped"], name=self._runner.name, after=0)
        async with scratch.transaction() as transaction:
            for position, event_id, key in skipped:
                place = {"name": self._runner.name, "position": position, "event_id": event_id, "key": key}
                await transaction.run(SQL["skip"], **place, cause="", reason="")

    def _refuse_untold(self) -> None:
        """Refuse what no fold of the log tells.

        Raises:
            PastUnknownError: so it is.
        """
        name = self._runner.name
        if self._runner.reads_others:
            raise PastUnknownError(name, "its rows follow from those of other projections, too")
        if self._start != "beginning":
            raise PastUnknownError(name, "it began with what came after it was added, and where is not recorded")

    def _too_many(self) -> PastUnknownError:
        return PastUnknownError(
            self._runner.name,
            f"more than {self._options.as_of_events:,} events would be looked through for one row "
            f"(`QueryOptions.as_of_events`); tag its events with its key, or fold the whole read model: "
            f"`async with read_model.as_of(…)`",
        )
