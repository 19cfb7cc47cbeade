"""How far a read model has come in the database that answers its questions, and waiting until it has come further."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from twofold.errors import HistoryChangedError, ReadModelBuildingError, StorageError, UnknownProjectionError
from twofold.log.chunks import mark_at
from twofold.log.event_store import EventStore
from twofold.messages.context import current_metadata
from twofold.messages.event import stored_names
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import Mark
from twofold.messages.read_policy import ReadPolicy
from twofold.options import QueryOptions
from twofold.ports.checkpoints import SQL, Checkpoint, Generation
from twofold.ports.positions import Positions
from twofold.ports.read_database import ReadDatabase
from twofold.ports.segments import Segment
from twofold.ports.turns import Turns
from twofold.ports.watermark import Watermark
from twofold.projections.runner import ProjectionRunner
from twofold.queries.consistency import AtHand
from twofold.queries.lag import lag_of
from twofold.queries.serving import Serving, ServingGeneration


class _Complete(NamedTuple):
    """Up to when the answers of a read model were complete, by `time.monotonic`, as long as its history is the same."""

    until: float = -math.inf
    history: tuple[Any, ...] = ()


class ReadModelProgress:
    """A `twofold.queries.consistency.Progress`, whichever process moves the read model.

    Signals, and what this process has seen, only say when it is worth looking: what counts is the position that is read
    from the database, of the generation that is read. On behalf of a tenant, it is how far the read model is complete
    for this tenant: while others are held back, that is further than for all.

    Args:
        store: where the events are.
        database: where the read model answers.
        runner: its code.
        positions: what this process knows of the read models in this database.
        options: how often to look.
        faults: returns what fails at present in this process, by the names of projections.
    """

    def __init__(
        self,
        store: EventStore,
        database: ReadDatabase,
        runner: ProjectionRunner,
        positions: Positions,
        options: QueryOptions = QueryOptions(),  # noqa: B008 - it is immutable
        faults: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self.name = runner.name
        self.handled = stored_names(runner.projection.handles())
        self.runner = runner
        self.serving = ServingGeneration(database, runner, 0.0 if runner.drive.by_appends else options.lookup, options)
        self._store = store
        self._database = database
        self._positions = positions
        self._options = options
        self._compared_at, self._compared_after = -math.inf, 0
        self._complete = _Complete()
        self._comparing = Turns()
        self._faults = faults

    @property
    def policy(self) -> ReadPolicy | None:
        declared: ReadPolicy | None = self.runner.projection.policy
        return declared

    @property
    def reached(self) -> int:
        known = self.serving.known
        return self._believed(known) if known else 0

    def at_hand(self) -> AtHand | None:
        known, limit = self.serving.at_hand(), self.runner.projection.max_lag
        if known is None:
            return None
        watermark = self._watermark(known.generation)
        if limit is not None and not self._may_still_lack(limit, known, watermark):
            return None
        return AtHand(known, max(known.position, watermark.position))

    async def find(self) -> Serving:
        return await self.serving.find()

    async def fault(self) -> str:
        if own := self._faults().get(self.name, ""):
            return own
        serving = await self.find()
        return next((row.error for row in await self._checkpoints(serving.generation) if row.error), "")

    async def head(self) -> int:
        return await self._store.head()

    async def compare(self, position: int) -> None:
        await self._store.known_positions.compare(position)

    async def lag(self) -> timedelta:
        serving = await self._compared(await self.find())
        if self._believed(serving) >= await self._store.head():
            return timedelta()
        rows = await self._checkpoints(serving.generation)
        return max([await lag_of(self._store, self.runner, row, _tenant()) for row in rows], default=timedelta())

    async def is_late(self) -> bool:
        limit: timedelta | None = self.runner.projection.max_lag
        if limit is None or self._may_still_lack_known(limit):
            return False
        asked, serving = time.monotonic(), await self.find()
        lag = await self.lag()
        history = self._history_of(serving, self._watermark(serving.generation))
        self._complete = _Complete(asked - lag.total_seconds(), history)
        return lag > limit

    def _may_still_lack_known(self, limit: timedelta) -> bool:
        known = self.serving.known
        return known is not None and self._may_still_lack(limit, known, self._watermark(known.generation))

    def _may_still_lack(self, limit: timedelta, known: Serving, watermark: Watermark) -> bool:
        """Return whether what may be missing cannot be older than a limit, without a look at the log.

        A read model that was complete at a moment lacks nothing older than that moment, as long as it and the log have
        the same history. So one that keeps up is compared with the log now and then, and not for each question.
        """
        complete = self._complete
        is_recent = time.monotonic() - complete.until < limit.total_seconds() and self._is_compared()
        return is_recent and complete.history == self._history_of(known, watermark)

    def _history_of(self, serving: Serving, watermark: Watermark) -> tuple[int, str, int, int]:
        """Return what changes when positions of a read model go back, or another generation or another tenant asks."""
        name, number, *_ = serving.generation
        tenant = _tenant() if self._positions.holds_back(name, number) else ""
        return number, tenant, watermark.times_set_back, self._store.log.times_set_back

    async def approach(self, position: int, deadline: float, poll: float | None = None) -> Serving:
        poll = self._options.poll if poll is None else poll
        while True:
            try:
                serving = await self.find()
                is_over = time.monotonic() >= deadline
                if self._believed(serving) < position:
                    serving = await (
                        self._look(position, time.monotonic())
                        if is_over
                        else self._news(serving, position, deadline, poll)
                    )
                if is_over or self._believed(serving) >= position:
                    serving = await self._compared(serving)
                if is_over or self._believed(serving) >= position:
                    return serving
            except (UnknownProjectionError, ReadModelBuildingError):
                if time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(min(deadline - time.monotonic(), self._options.unready_lookup))

    async def wait(self, position: int, deadline: float) -> int:
        began = time.monotonic()
        while True:
            believed = await self.approach(position, deadline)
            if believed.position < position:  # a signal says so
                serving = await self._look(position, time.monotonic())
            else:  # an earlier look may have shown a history that the log has lost since
                serving = await self._look(0, began)
            if serving.position >= position or time.monotonic() >= deadline:
                return serving.position
            if serving.generation.number == believed.generation.number:
                self.correct(serving, serving.position)

    async def _compared(self, serving: Serving) -> Serving:
        """Return the generation that answers, where it stands in the history that the log has.

        Raises:
            HistoryChangedError: it stands nowhere in it.
        """
        await self._compare(serving)
        return await self.find()

    async def _compare(self, serving: Serving) -> None:
        """Make sure, now and then, that what a generation has read is what the log holds, and how far it has come.

        Raises:
            HistoryChangedError: the log has another history; no position of the read model means anything in it.
        """
        if not self._is_compared():
            async with self._comparing:  # those who ask at one moment share one comparison
                if not self._is_compared():
                    await self._compare_now(serving)

    def _is_compared(self) -> bool:
        is_recent = time.monotonic() < self._compared_at + self._options.poll
        return is_recent and self._compared_after == self._store.log.times_set_back

    async def _compare_now(self, serving: Serving) -> None:
        losses = self._store.log.times_set_back
        rows = await self._checkpoints(serving.generation)
        for row in rows:
            try:
                await mark_at(self._store.log, row.furthest, row.furthest.position)
            except HistoryChangedError as error:
                raise error.of(self.name) from None
        self._compared_at, self._compared_after = time.monotonic(), losses
        self._positions.read({Segment(*row[:4]): (row.epoch, row.position) for row in rows})
        position = min((row.reached(_tenant()) for row in rows), default=0)
        if position < self._believed(serving):  # it has gone back, with the log or by an operator
            self.correct(serving, position)

    def correct(self, serving: Serving, position: int) -> None:
        self._complete = _Complete()
        self.serving.forget()
        self._watermark(serving.generation).set_back(position)

    async def still_serves(self, serving: Serving) -> bool:
        return (await self._look(0, time.monotonic())).generation.number == serving.generation.number

    async def misses_nothing(self, position: int, end: int) -> bool:
        query = EventQuery.exactly(*self.runner.projection.handles())
        try:
            seen = await self._store.log.scan(query, after=Mark(position), end=end, limit=1)
        except HistoryChangedError:  # the log ends before the position
            return False
        return not seen.rows and seen.covered.position == end

    async def refuse_parked(self, key: str) -> None:
        """Do nothing: rows with parked events are answered, and said to be stale."""

    async def appear(self) -> None:
        """Wait until a replica shows a read model that was prepared on its primary.

        Raises:
            StorageError: it does not do so in time.
        """
        deadline = time.monotonic() + self._options.replication
        while time.monotonic() < deadline:
            try:
                await self._look(0, time.monotonic())
            except UnknownProjectionError:
                await asyncio.sleep(self._options.unready_lookup)
            except ReadModelBuildingError:
                return
            else:
                return
        raise StorageError(
            f"the replica does not show the read model {self.name} after {self._options.replication:g} s; make sure "
            f"that it follows the database that this application writes to"
        )

    async def reload(self) -> None:
        """Read where the read model stands now, also if that is further back, as an operator has set it.

        Raises:
            StorageError: the database failed.
        """
        self._complete, serving = _Complete(), await self._look(0, time.monotonic())
        for row in await self._checkpoints(serving.generation):
            self._positions.reached(Segment(*row[:4]), row.epoch, row.position, row.held_back)
        self._watermark(serving.generation).set_back(serving.position)

    async def _news(self, serving: Serving, position: int, deadline: float, poll: float) -> Serving:
        """Wait for a signal that a generation has passed a position, and now and then look where it is."""
        self._database.follow(self._positions)
        patience = min(deadline - time.monotonic(), poll)
        watermark = self._watermark(serving.generation)
        if await watermark.wait(position - 1, patience) < position and time.monotonic() < deadline:
            return await self._look(position, time.monotonic() - poll)
        return serving  # after the deadline, `approach` looks once more

    async def _look(self, reaching: int, since: float) -> Serving:
        serving = await self.serving.look(since, reaching)
        if serving.holds_back or self._positions.holds_back(self.name, serving.generation.number):
            serving = serving._replace(position=await self._of_tenant(serving.generation))
        self._watermark(serving.generation).advance(serving.position)
        return serving

    async def _of_tenant(self, generation: Generation) -> int:
        """Return up to where a generation is complete for the tenant who asks; without one, for all."""
        rows = await self._checkpoints(generation)
        for row in rows:
            self._positions.reached(Segment(*row[:4]), row.epoch, row.position, row.held_back)
        return min((row.reached(_tenant()) for row in rows), default=0)

    async def _checkpoints(self, generation: Generation) -> Sequence[Checkpoint]:
        place = {"name": generation.name, "generation": generation.number}
        return [Checkpoint(*row) for row in await self._database.query(SQL["checkpoints_of"], **place)]

    def _believed(self, serving: Serving) -> int:
        return max(serving.position, self._watermark(serving.generation).position)

    def _watermark(self, generation: Generation) -> Watermark:
        name, number, *_ = generation
        return self._positions.watermark(name, number, _tenant() if self._positions.holds_back(name, number) else "")


def _tenant() -> str:
    return current_metadata().tenant or ""
