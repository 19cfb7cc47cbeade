"""How the events of a batch go into a read model, for each kind of projection."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import msgspec

from twofold.errors import CheckpointMovedError, OutcomeUnknownError, ProjectionFailedError, StorageError
from twofold.fingerprint import fingerprint
from twofold.generations import Buildable, advance
from twofold.grouped_projection import GroupedProjection
from twofold.known_rows import KnownRows
from twofold.messages import RecordedEvent
from twofold.projection import Folded, KeyValues, Projection, ProjectionKind, check_projection_name, fold
from twofold.read_database import IDLE, Changes, ReadDatabase, ReadTransaction, Selection, Style
from twofold.row_type import Table
from twofold.segments import Parked, Step
from twofold.sql import quoted
from twofold.sql_projection import Reaction, SqlProjection, applied, is_failure

NOTHING = Changes()
INFRASTRUCTURE = (StorageError, OutcomeUnknownError)
"""Errors that no event is to blame for."""
MAX_CAUSE, MAX_TRACEBACK = 1000, 20_000
"""Characters that are stored of an error, at most."""
MAX_BY_SQL = 1000
"""Events that a projection by SQL takes at once: each is a statement at least, and all must fit well into a lease."""
MOST_ROWS = (1 << 63) - 1
"""No limit; as many rows as every engine can count."""
_encode = msgspec.json.Encoder(order="deterministic").encode


class Handed(msgspec.Struct, frozen=True, gc=False, eq=False):
    """An event on its way into a read model."""

    recorded: RecordedEvent[Any]
    key: KeyValues

    @property
    def text(self) -> str:
        """The key as JSON."""
        return key_text(self.key)


class Failed(NamedTuple):
    """An event that did not get there, and why; without an error, it waits behind another one."""

    handed: Handed
    error: BaseException | None = None

    def parked(self) -> Parked:
        """Return what is stored of it."""
        return Parked(self.handed.recorded.position, self.handed.text, *described(self.error))


def described(error: BaseException | None) -> tuple[str, str]:
    """Return the cause and the traceback of an error, as they are stored, whatever the error is made of."""
    if error is None:
        return "", ""
    name = type(error).__name__
    try:
        cause = f"{name}: {error}"
    except Exception as also:  # its text is the user's code
        cause = f"{name}, whose text cannot be had: {type(also).__name__}"
    trace = "".join(traceback.format_exception(error))
    return storable(cause, MAX_CAUSE), storable(trace, MAX_TRACEBACK)


def storable(text: str, limit: int) -> str:
    """Return text that every engine can store; of a long one, its beginning and its end."""
    if len(text) > limit:
        text = f"{text[: limit // 2]} […] {text[-limit // 2 :]}"
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()


class Projector(Buildable, Protocol):
    """The code of a projection, of one kind or another, ready to run."""

    projection: Any
    kind: ProjectionKind
    batch_size: int
    """Events that it takes at once, at most."""

    def key(self, recorded: RecordedEvent[Any]) -> KeyValues:
        """Return the key of an event.

        Raises:
            Exception: whatever the projection's own code raises.
        """

    async def project(
        self,
        suffix: str,
        events: Sequence[Handed],
        step: Step,
        *,
        last_try: bool,
        changes: Changes = NOTHING,
        moving: Callable[[], object] = lambda: None,
    ) -> Sequence[Failed]:
        """Bring events into the tables of a generation and take the step, in one transaction.

        If some fail, nothing is stored, and they are returned. On the last try they are parked instead, and so are
        the later events of their keys; the others are stored.

        Args:
            suffix: of the names of the tables.
            events: in order, none of which is of a key that is parked.
            step: how the checkpoint moves.
            last_try: whether failures are parked.
            changes: what else is to be parked and released.
            moving: called after each event that takes time of its own, to tell that the work goes on.

        Raises:
            CheckpointMovedError: nothing was stored; see `ReadDatabase.commit`.
            StorageError: nothing was stored, or it cannot be said.
        """


class KeyedProjector:
    """Runs a `Projection`: one read and one write for all rows that a batch touches."""

    def __init__(
        self,
        database: ReadDatabase,
        projection: Projection[Any],
        batch_size: int,
        kind: ProjectionKind = "asynchronous",
    ) -> None:
        self.projection = projection
        self.kind: ProjectionKind = kind
        self.name, self.version, self.batch_size = projection.name, projection.version, batch_size
        self.style: Style = "driver"
        self._database = database
        self._table = projection.table()
        self._rows = projection.row_type()
        self._own_key = type(projection).key is not Projection.key
        self._known = KnownRows()

    def fingerprint(self) -> Mapping[str, str]:
        """See `Buildable.fingerprint`."""
        return fingerprint(type(self.projection), self._table, until=Projection)

    async def make(self, transaction: ReadTransaction, suffix: str) -> None:
        """See `Buildable.make`."""
        await transaction.create(self.table(suffix))

    async def check(self, transaction: ReadTransaction, suffix: str) -> None:
        """See `Buildable.check`."""
        await transaction.check(self.table(suffix))

    async def clear(self, transaction: ReadTransaction, suffix: str) -> None:
        """See `Buildable.clear`."""
        await transaction.run(f"DELETE FROM {quoted(self._table.name + suffix)}")

    async def drop(self, transaction: ReadTransaction, suffix: str) -> None:
        """See `Buildable.drop`."""
        await transaction.drop(self._table.name + suffix)

    async def expose(self, transaction: ReadTransaction, suffix: str) -> None:
        """See `Buildable.expose`."""
        await transaction.expose(self._table.name, self._table.name + suffix)

    def table(self, suffix: str) -> Table:
        """Return the table of a generation."""
        return self._table._replace(name=self._table.name + suffix)

    def key(self, recorded: RecordedEvent[Any]) -> KeyValues:
        """See `Projector.key`."""
        return _as_key(self.projection.key(recorded.event)) if self._own_key else self._rows.key_of(recorded.event)

    async def project(
        self,
        suffix: str,
        events: Sequence[Handed],
        step: Step,
        *,
        last_try: bool,
        changes: Changes = NOTHING,
        moving: Callable[[], object] = lambda: None,
    ) -> Sequence[Failed]:
        """See `Projector.project`."""
        table, stored = self.table(suffix), self._known.take(step)
        try:
            stored.update(await self._stored(table, [each for each in events if each.key not in stored]))
            folded = fold(self.projection, stored, [each.key for each in events], [each.recorded for each in events])
            failures = _failed(events, {each.recorded.position: each.error for each in folded.failures})
            if failures and not last_try:
                return failures
            parked = [*changes.parked, *(each.parked() for each in failures)]
            rows = self._changes(stored, folded)
            await self._database.commit(table, rows._replace(parked=parked, released=changes.released), step)
        except (CheckpointMovedError, *INFRASTRUCTURE):
            raise
        except Exception as error:  # a key or a row that cannot be stored
            return await self._one_by_one(suffix, events, step, error, last_try=last_try, changes=changes)
        if not failures:  # what failed may have changed its row before
            stored.update(folded.rows)
            self._known.give_back(step, stored)
        return failures

    async def _stored(self, table: Table, events: Sequence[Handed]) -> dict[KeyValues, Any]:
        """Return the rows that events are about."""
        makes_row = {event: self.projection.makes_row(event) for event in self.projection.handles()}
        looked_at = {each.key for each in events if not makes_row.get(type(each.recorded.event))}
        wanted = set(map(self._rows.dump_key, looked_at))
        stored = map(self._rows.load, await self._database.load(table, wanted))
        return {self._rows.key_of(row): row for row in stored}

    def _changes(self, stored: Mapping[KeyValues, Any], folded: Folded) -> Changes:
        """Return what makes the folded rows of the stored ones."""
        upserts = [self._rows.dump(row) for row in folded.rows.values() if row is not None]
        return Changes(upserts, [self._rows.dump_key(key) for key, row in folded.rows.items() if row is None])

    def group(self, key: KeyValues) -> KeyValues:
        """Return the key of the events that a row is made of."""
        return key

    def rows(self, folded: Folded) -> Mapping[KeyValues, Any]:
        """Return the rows that there are after events, by key."""
        return {key: row for key, row in folded.rows.items() if row is not None}

    async def _one_by_one(
        self, suffix: str, events: Sequence[Handed], step: Step, error: Exception, *, last_try: bool, changes: Changes
    ) -> Sequence[Failed]:
        """Find out by halves which event makes what cannot be stored. Each half takes a step of its own."""
        if len(events) == 1:
            failed = Failed(events[0], error)
            if last_try:
                parked = [*changes.parked, failed.parked()]
                await self._database.commit(self.table(suffix), changes._replace(parked=parked), step)
            return [failed]
        if not last_try:
            return [Failed(events[0], error)]
        half = len(events) // 2
        middle = events[half].recorded.position - 1
        early = Changes(parked=[each for each in changes.parked if each.position <= middle])
        late = [each for each in changes.parked if each.position > middle]
        there = step._replace(after=middle)
        first = await self.project(suffix, events[:half], there, last_try=True, changes=early)
        blocked = {each.handed.text for each in first}
        rest = [each for each in events[half:] if each.text not in blocked]
        waiting = [Failed(each) for each in events[half:] if each.text in blocked]
        parked = [*late, *(each.parked() for each in waiting)]
        last = step._replace(before=middle)
        if rest:
            second = await self.project(suffix, rest, last, last_try=True, changes=changes._replace(parked=parked))
        else:
            second = []
            await self._database.commit(self.table(suffix), changes._replace(parked=parked), last)
        return [*first, *waiting, *second]


class GroupedProjector(KeyedProjector):
    """Runs a `GroupedProjection`: where a row is for the one, all rows of a group are for this one."""

    def fingerprint(self) -> Mapping[str, str]:
        """See `Buildable.fingerprint`."""
        return fingerprint(type(self.projection), self._table, until=GroupedProjection)

    async def _stored(self, table: Table, events: Sequence[Handed]) -> dict[KeyValues, Any]:
        groups = tuple({self._rows.dump_key_part(each.key)[0] for each in events})
        selection = Selection(where=((table.key[0], "in", groups),), sort=table.key, limit=MOST_ROWS)
        found = map(self._rows.load, (await self._database.select(table, selection))[0] if groups else ())
        return {key: tuple(rows) for key, rows in groupby(found, lambda row: self.group(self._rows.key_of(row)))}

    def _changes(self, stored: Mapping[KeyValues, Any], folded: Folded) -> Changes:
        before = {self._rows.key_of(row): row for key in folded.rows for row in stored.get(key, ())}
        after = self.rows(folded)
        upserts = [self._rows.dump(row) for key, row in after.items() if before.get(key) != row]
        return Changes(upserts, [self._rows.dump_key(key) for key in before if key not in after])

    def group(self, key: KeyValues) -> KeyValues:
        """See `KeyedProjector.group`."""
        return key[:1]

    def rows(self, folded: Folded) -> Mapping[KeyValues, Any]:
        """See `KeyedProjector.rows`."""
        return {self._rows.key_of(row): row for rows in folded.rows.values() for row in rows or ()}


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

    def key(self, recorded: RecordedEvent[Any]) -> KeyValues:
        """See `Projector.key`."""
        return _as_key(self.projection.key(recorded.event))

    async def project(
        self,
        suffix: str,
        events: Sequence[Handed],
        step: Step,
        *,
        last_try: bool,
        changes: Changes = NOTHING,
        moving: Callable[[], object] = lambda: None,
    ) -> Sequence[Failed]:
        """See `Projector.project`."""
        failures: Sequence[Failed] = ()
        try:
            async with self._database.transaction(self.style, step.lease or IDLE) as transaction:
                failures = await self._apply(transaction, suffix, events, last_try=last_try, moving=moving)
                if failures and not last_try:
                    raise _GiveUpError
                parked = [*changes.parked, *(each.parked() for each in failures)]
                if not await advance(transaction, changes._replace(parked=parked), step):
                    raise CheckpointMovedError(self.name)
        except _GiveUpError:
            pass
        return failures

    async def _apply(
        self,
        transaction: ReadTransaction,
        suffix: str,
        events: Sequence[Handed],
        *,
        last_try: bool,
        moving: Callable[[], object],
    ) -> Sequence[Failed]:
        """Apply events up to the first that fails; on the last try those of other keys, too."""
        projection, blocked, errors = self.projection.at(suffix), set[str](), dict[int, BaseException | None]()
        for each in events:
            if each.text in blocked:
                errors[each.recorded.position] = None
                continue
            if last_try:
                await transaction.run("SAVEPOINT twofold_event")
            moving()
            try:
                await transaction.call(applied(projection, each.recorded))
            except BaseException as error:
                if not is_failure(error) or isinstance(error, INFRASTRUCTURE) or transaction.is_to_blame(error):
                    raise
                errors[each.recorded.position] = error
                blocked.add(each.text)
                if not last_try:
                    break
                await transaction.run("ROLLBACK TO SAVEPOINT twofold_event")
            if last_try:
                await transaction.run("RELEASE SAVEPOINT twofold_event")
        return _failed(events, errors)


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

    def key(self, recorded: RecordedEvent[Any]) -> KeyValues:
        """See `Projector.key`."""
        return _as_key(self.projection.key(recorded.event))

    async def project(
        self,
        suffix: str,
        events: Sequence[Handed],
        step: Step,
        *,
        last_try: bool,
        changes: Changes = NOTHING,
        moving: Callable[[], object] = lambda: None,
    ) -> Sequence[Failed]:
        """See `Projector.project`. What it did before a failure stays done."""
        failures: list[Failed] = []
        for each in events:
            try:
                await applied(self.projection, each.recorded)()
            except BaseException as error:
                if not is_failure(error) or isinstance(error, INFRASTRUCTURE):
                    raise
                if self.projection.is_outage(error):
                    raise ProjectionFailedError(self.name, each.recorded) from error
                failures.append(Failed(each, error))
                if not last_try:
                    return failures
        async with self._database.transaction(idle=step.lease or IDLE) as transaction:
            parked = [*changes.parked, *(each.parked() for each in failures)]
            if not await advance(transaction, changes._replace(parked=parked), step):
                raise CheckpointMovedError(self.name)
        return failures


class _GiveUpError(Exception):
    """Rolls a transaction back."""


def handed(projector: Projector, recorded: RecordedEvent[Any]) -> Handed:
    """Return an event with its key.

    Raises:
        Exception: whatever the projection's own code raises.
    """
    return Handed(recorded, projector.key(recorded))


def key_text(key: KeyValues) -> str:
    """Return a key as JSON. stored: version with care."""
    return _encode(key).decode()


def _as_key(key: Any) -> KeyValues:
    return key if type(key) is tuple else (key,)


def _failed(events: Sequence[Handed], errors: Mapping[int, BaseException | None]) -> Sequence[Failed]:
    """Return the failures among some events, given by position."""
    if not errors:
        return ()
    return [Failed(each, errors[each.recorded.position]) for each in events if each.recorded.position in errors]
