"""Runs SQL projections: their own statements, in the transaction that moves the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twofold.messages.event import RecordedEvent
from twofold.ports.read_database import IDLE, ReadDatabase, ReadTransaction, Style
from twofold.ports.sql import quoted
from twofold.projections.failure import INFRASTRUCTURE
from twofold.projections.fingerprint import fingerprint
from twofold.projections.folding import FailedEvent, keys_of
from twofold.projections.projection import KeyValues, check_projection_name
from twofold.projections.runner import Drive, ProjectionBatch, Start, take_step
from twofold.projections.sql_projection import SqlProjection, applied
from twofold.tasks import is_failure

MAX_BY_SQL = 1000
"""Events that a projection by SQL takes at once: each is a statement at least, and all must fit well into a lease."""


class SqlRunner:
    """Runs a `SqlProjection`, in the transaction that moves the checkpoint."""

    start: Start = "beginning"
    has_read_model = True
    rows = None

    def __init__(self, database: ReadDatabase, projection: SqlProjection, batch_size: int, drive: Drive) -> None:
        check_projection_name(projection)
        self.drive = drive
        self.projection = projection
        self.name, self.version, self.batch_size = projection.name, projection.version, min(batch_size, MAX_BY_SQL)
        self.style: Style = projection.connection
        self._database = database

    def fingerprint(self) -> Mapping[str, str]:
        return fingerprint(type(self.projection), until=SqlProjection)

    async def make(self, transaction: ReadTransaction, suffix: str) -> None:
        await transaction.call(self.projection.at(suffix).create)

    async def check(self, transaction: ReadTransaction, suffix: str) -> None:
        """Accept what stands there: the tables are the projection's own."""

    async def clear(self, transaction: ReadTransaction, suffix: str) -> None:
        for table in self.projection.tables:
            await transaction.run(f"DELETE FROM {quoted(table + suffix)}")

    async def drop(self, transaction: ReadTransaction, suffix: str) -> None:
        for table in self.projection.tables:
            await transaction.drop(table + suffix)

    async def expose(self, transaction: ReadTransaction, suffix: str) -> None:
        for table in self.projection.tables:
            await transaction.expose(table, table + suffix)

    def keys(self, events: Sequence[RecordedEvent[Any]]) -> list[KeyValues]:
        return keys_of(self.projection, events)

    async def project(self, batch: ProjectionBatch) -> Sequence[FailedEvent]:
        failures: Sequence[FailedEvent] = ()
        try:
            async with self._database.transaction(self.style, batch.step.lease or IDLE) as transaction:
                failures = await self._apply(transaction, batch)
                if failures and not batch.last_try:
                    raise _GiveUpError
                await take_step(transaction, batch, failures)
        except _GiveUpError:
            pass
        return failures

    async def _apply(self, transaction: ReadTransaction, batch: ProjectionBatch) -> Sequence[FailedEvent]:
        """Apply events up to the first that fails; on the last try those of other keys, too."""
        projection = self.projection.at(batch.suffix)
        blocked, failures = set[str](), list[FailedEvent]()
        for each in batch.events:
            if blocked and each.text in blocked:
                failures.append(FailedEvent(each))
                continue
            if batch.last_try:
                await transaction.run("SAVEPOINT twofold_event")
            batch.moving()
            try:
                await transaction.call(applied(projection, each.recorded))
            except BaseException as error:
                if not is_failure(error) or isinstance(error, INFRASTRUCTURE) or transaction.is_to_blame(error):
                    raise
                failures.append(FailedEvent(each, error))
                blocked.add(each.text)
                if not batch.last_try:
                    break
                await transaction.run("ROLLBACK TO SAVEPOINT twofold_event")
            if batch.last_try:
                await transaction.run("RELEASE SAVEPOINT twofold_event")
        return failures


class _GiveUpError(Exception):
    """Rolls a transaction back."""
