"""How the events of a batch go to code of the user's own that writes: SQL projections and reactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twofold.errors import CheckpointMovedError, ProjectionFailedError
from twofold.messages.event import RecordedEvent
from twofold.ports.checkpoints import advance
from twofold.ports.read_database import IDLE, ReadDatabase, ReadTransaction, Style
from twofold.ports.sql import quoted
from twofold.projections.fingerprint import fingerprint
from twofold.projections.projection import KeyValues, ProjectionKind, check_projection_name, keys_of
from twofold.projections.projector import INFRASTRUCTURE, Failed, Portion, failed
from twofold.projections.reaction import Reaction
from twofold.projections.sql_projection import SqlProjection, applied, is_failure

MAX_BY_SQL = 1000
"""Events that a projection by SQL takes at once: each is a statement at least, and all must fit well into a lease."""


class SqlProjector:
    """Runs a `SqlProjection`, in the transaction that moves the checkpoint."""

    kind: ProjectionKind = "asynchronous"

    def __init__(self, database: ReadDatabase, projection: SqlProjection, batch_size: int) -> None:
        check_projection_name(projection)
        self.projection = projection
        self.name, self.version, self.batch_size = projection.name, projection.version, min(batch_size, MAX_BY_SQL)
        self.style: Style = projection.connection
        self._database = database

    def fingerprint(self) -> Mapping[str, str]:
        """See `Buildable.fingerprint`."""
        return fingerprint(type(self.projection), until=SqlProjection)

    async def make(self, transaction: ReadTransaction, suffix: str) -> None:
        """See `Buildable.make`."""
        await transaction.call(self.projection.at(suffix).create)

    async def check(self, transaction: ReadTransaction, suffix: str) -> None:
        """See `Buildable.check`. What stands there is the projection's own."""

    async def clear(self, transaction: ReadTransaction, suffix: str) -> None:
        """See `Buildable.clear`."""
        for table in self.projection.tables:
            await transaction.run(f"DELETE FROM {quoted(table + suffix)}")

    async def drop(self, transaction: ReadTransaction, suffix: str) -> None:
        """See `Buildable.drop`."""
        for table in self.projection.tables:
            await transaction.drop(table + suffix)

    async def expose(self, transaction: ReadTransaction, suffix: str) -> None:
        """See `Buildable.expose`."""
        for table in self.projection.tables:
            await transaction.expose(table, table + suffix)

    def keys(self, events: Sequence[RecordedEvent[Any]]) -> list[KeyValues]:
        """See `Projector.keys`."""
        return keys_of(self.projection, events)

    async def project(self, portion: Portion) -> Sequence[Failed]:
        """See `Projector.project`."""
        failures: Sequence[Failed] = ()
        try:
            async with self._database.transaction(self.style, portion.step.lease or IDLE) as transaction:
                failures = await self._apply(transaction, portion)
                if failures and not portion.last_try:
                    raise _GiveUpError
                await _advance(transaction, self.name, portion, failures)
        except _GiveUpError:
            pass
        return failures

    async def _apply(self, transaction: ReadTransaction, portion: Portion) -> Sequence[Failed]:
        """Apply events up to the first that fails; on the last try those of other keys, too."""
        projection = self.projection.at(portion.suffix)
        blocked, errors = set[str](), dict[int, BaseException | None]()
        for each in portion.events:
            if blocked and each.text in blocked:
                errors[each.recorded.position] = None
                continue
            if portion.last_try:
                await transaction.run("SAVEPOINT twofold_event")
            portion.moving()
            try:
                await transaction.call(applied(projection, each.recorded))
            except BaseException as error:
                if not is_failure(error) or isinstance(error, INFRASTRUCTURE) or transaction.is_to_blame(error):
                    raise
                errors[each.recorded.position] = error
                blocked.add(each.text)
                if not portion.last_try:
                    break
                await transaction.run("ROLLBACK TO SAVEPOINT twofold_event")
            if portion.last_try:
                await transaction.run("RELEASE SAVEPOINT twofold_event")
        return failed(portion.events, errors)


class ReactionProjector:
    """Runs a `Reaction`, one event after the other; the checkpoint follows."""

    kind: ProjectionKind = "asynchronous"
    batch_size = 1

    def __init__(self, database: ReadDatabase, projection: Reaction) -> None:
        check_projection_name(projection)
        self.projection = projection
        self.name, self.version = projection.name, 1
        self.style: Style = "driver"
        self._database = database

    def fingerprint(self) -> Mapping[str, str]:
        """See `Buildable.fingerprint`. Nothing that was built depends on it."""
        return {"row": ""}

    async def make(self, transaction: ReadTransaction, suffix: str) -> None:
        """See `Buildable.make`. It has no tables."""

    async def check(self, transaction: ReadTransaction, suffix: str) -> None:
        """See `Buildable.check`. It has no tables."""

    async def clear(self, transaction: ReadTransaction, suffix: str) -> None:
        """See `Buildable.clear`. It has no tables."""

    async def drop(self, transaction: ReadTransaction, suffix: str) -> None:
        """See `Buildable.drop`. It has no tables."""

    async def expose(self, transaction: ReadTransaction, suffix: str) -> None:
        """See `Buildable.expose`. It has no tables."""

    def keys(self, events: Sequence[RecordedEvent[Any]]) -> list[KeyValues]:
        """See `Projector.keys`."""
        return keys_of(self.projection, events)

    async def project(self, portion: Portion) -> Sequence[Failed]:
        """See `Projector.project`. What it did before a failure stays done."""
        failures: list[Failed] = []
        for each in portion.events:
            try:
                await applied(self.projection, each.recorded)()
            except BaseException as error:
                if not is_failure(error) or isinstance(error, INFRASTRUCTURE):
                    raise
                if self.projection.is_outage(error):
                    raise ProjectionFailedError(self.name, each.recorded) from error
                failures.append(Failed(each, error))
                if not portion.last_try:
                    return failures
        async with self._database.transaction(idle=portion.step.lease or IDLE) as transaction:
            await _advance(transaction, self.name, portion, failures)
        return failures


async def _advance(transaction: ReadTransaction, name: str, portion: Portion, failures: Sequence[Failed]) -> None:
    if not await advance(transaction, portion.with_parked(failures), portion.step):
        raise CheckpointMovedError(name)


class _GiveUpError(Exception):
    """Rolls a transaction back."""
