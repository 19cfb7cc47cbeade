"""Runs SQL projections: their own statements, in the transaction that moves the checkpoint."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from twofold.messages.context import enter_event, leave_context
from twofold.messages.event import RecordedEvent
from twofold.options import FoldOptions
from twofold.ports.read_database import IDLE, ReadDatabase, ReadTransaction, Style
from twofold.projections.failure import INFRASTRUCTURE
from twofold.projections.fingerprint import fingerprint
from twofold.projections.keys.keyed_event import FailedEvent, KeyedEvent, is_divided, keyed_once
from twofold.projections.projection import check_projection_name
from twofold.projections.runner import Drive, Projected, ProjectionBatch, Start, take_step
from twofold.projections.sql_projection import SqlProjection, applied
from twofold.tasks import is_failure


class SqlRunner:
    """Runs a `SqlProjection`, in the transaction that moves the checkpoint."""

    start: Start = "beginning"
    has_read_model = True
    max_wait: float | None = None
    rows = None
    beside = None
    trouble = None

    def __init__(
        self,
        database: ReadDatabase,
        projection: SqlProjection,
        batch_size: int,
        drive: Drive,
        folding: FoldOptions = FoldOptions(),  # noqa: B008 - it is immutable
    ) -> None:
        check_projection_name(projection)
        self.drive = drive
        self._folding = folding
        self.projection = projection
        self.name, self.version = projection.name, projection.version
        self.batch_size = min(batch_size, folding.sql_events)
        self.style: Style = projection.connection
        self._database = database

    def fingerprint(self) -> Mapping[str, str]:
        return fingerprint(type(self.projection), until=SqlProjection)

    async def make(self, transaction: ReadTransaction, suffix: str) -> None:
        await transaction.call(self.projection.at(suffix).create)

    async def check(self, transaction: ReadTransaction, suffix: str) -> None:
        """Accept what stands there: the tables are the projection's own."""

    async def clear(self, transaction: ReadTransaction, suffix: str) -> None:
        await transaction.empty(*(table + suffix for table in self.projection.tables))

    async def drop(self, transaction: ReadTransaction, suffix: str) -> None:
        await transaction.drop(*(table + suffix for table in self.projection.tables))

    async def expose(self, transaction: ReadTransaction, suffix: str) -> None:
        for table in self.projection.tables:
            await transaction.expose(table, table + suffix)

    def keyed(self, events: Sequence[RecordedEvent[Any]]) -> list[KeyedEvent]:
        return keyed_once(self.projection, events)

    async def project(self, batch: ProjectionBatch) -> Projected:
        offered, count = len(batch.events), 0
        failures: Sequence[FailedEvent] = ()
        try:
            async with self._database.transaction(self.style, batch.step.lease or IDLE) as transaction:
                count, failures = await self._apply(transaction, batch)
                batch = batch.first(count)
                if failures and not batch.last_try:
                    raise _GiveUpError
                await take_step(transaction, batch, failures)
        except _GiveUpError:
            pass
        if count < offered:
            await asyncio.sleep(min(self._database.transaction_time, self._folding.sql_pause))
        return Projected(batch.step, failures)

    async def _apply(self, transaction: ReadTransaction, batch: ProjectionBatch) -> tuple[int, Sequence[FailedEvent]]:
        """Apply events up to the first that fails, on the last try those of other keys, too; return how many."""
        projection, blocked, failures = self.projection.at(batch.suffix), set[str](), list[FailedEvent]()
        end, count = time.perf_counter() + (self._database.transaction_time if batch.is_divisible else math.inf), 0
        for event in _by_position(batch.events):
            count += len(event)
            if blocked and any(each.text in blocked for each in event):
                failures += map(FailedEvent, event)
                blocked.update(each.text for each in event)
                continue
            batch.moving()
            error = await self._apply_one(transaction, projection, event, keep_others=batch.last_try)
            if error is not None:
                failures += [FailedEvent(event[0], error), *map(FailedEvent, event[1:])]
                blocked.update(each.text for each in event)
                if not batch.last_try:
                    return count, failures
            if time.perf_counter() > end:
                return count, failures
        return len(batch.events), failures

    async def _apply_one(
        self, transaction: ReadTransaction, projection: SqlProjection, event: Sequence[KeyedEvent], *, keep_others: bool
    ) -> BaseException | None:
        """Apply one event, all of its parts; return why that fails, with what it wrote undone if others are kept."""
        if keep_others:
            await transaction.run("SAVEPOINT twofold_event")
        failure = None
        for each in event:
            token = enter_event(each.recorded)  # on whose behalf, if it appends, or calls what asks
            try:
                await transaction.call(applied(projection, each.recorded))
            except BaseException as error:
                if not is_failure(error) or isinstance(error, INFRASTRUCTURE) or transaction.is_to_blame(error):
                    raise
                failure = error
                break
            finally:
                leave_context(token)
        if keep_others:
            if failure is not None:
                await transaction.run("ROLLBACK TO SAVEPOINT twofold_event")
            await transaction.run("RELEASE SAVEPOINT twofold_event")
        return failure


def _by_position(events: Sequence[KeyedEvent]) -> Iterator[Sequence[KeyedEvent]]:
    """Yield what stands at one position of the log: an event, or all that upcasters have made of it."""
    first = 0
    for place in range(1, len(events) + 1):
        if not is_divided(events, place):
            yield events[first:place]
            first = place


class _GiveUpError(Exception):
    """Rolls a transaction back."""
