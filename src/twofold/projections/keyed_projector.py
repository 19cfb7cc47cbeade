"""How the events of a batch go into the rows of a keyed projection: one read and one write for all that it touches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from twofold.errors import CheckpointMovedError
from twofold.messages.event import RecordedEvent
from twofold.ports.read_database import Changes, ReadDatabase, ReadTransaction, Selection, Style
from twofold.ports.sql import quoted
from twofold.ports.table import Table
from twofold.projections.fingerprint import fingerprint
from twofold.projections.grouped import GroupedProjection
from twofold.projections.projection import Folded, KeyValues, Projection, ProjectionKind, fold, keys_of
from twofold.projections.projector import INFRASTRUCTURE, Failed, Handed, Portion, failed
from twofold.projections.row_cache import KnownRows

MOST_ROWS = (1 << 63) - 1
"""No limit; as many rows as every engine can count."""


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

    def keys(self, events: Sequence[RecordedEvent[Any]]) -> list[KeyValues]:
        """See `Projector.keys`."""
        if self._own_key:
            return keys_of(self.projection, events)
        return self._rows.keys_of([recorded.event for recorded in events])

    async def project(self, portion: Portion) -> Sequence[Failed]:
        """See `Projector.project`."""
        events, step = portion.events, portion.step
        table, stored = self.table(portion.suffix), self._known.take(step)
        try:
            stored.update(await self._stored(table, [each for each in events if each.key not in stored]))
            folded = fold(self.projection, stored, [each.key for each in events], [each.recorded for each in events])
            failures = failed(events, {each.recorded.position: each.error for each in folded.failures})
            if failures and not portion.last_try:
                return failures
            parked, released = portion.with_parked(failures).parked, portion.changes.released
            rows = self._changes(stored, folded)
            await self._database.commit(table, rows._replace(parked=parked, released=released), step)
        except (CheckpointMovedError, *INFRASTRUCTURE):
            raise
        except Exception as error:  # a key or a row that cannot be stored
            return await self._one_by_one(portion, error)
        if not failures:  # what failed may have changed its row before
            stored.update(folded.rows)
            self._known.give_back(step, stored)
        return failures

    async def _stored(self, table: Table, events: Sequence[Handed]) -> dict[KeyValues, Any]:
        """Return the rows that events are about."""
        makes_row = {event: self.projection.makes_row(event) for event in self.projection.handles()}
        looked_at = {each.key for each in events if not makes_row.get(type(each.recorded.event))}
        wanted = set(map(self._rows.dump_key, looked_at))
        stored = self._rows.load_all(await self._database.load(table, wanted))
        return dict(zip(self._rows.keys_of(stored), stored, strict=True))

    def _changes(self, stored: Mapping[KeyValues, Any], folded: Folded) -> Changes:
        """Return what makes the folded rows of the stored ones."""
        upserts = self._rows.dump_all(row for row in folded.rows.values() if row is not None)
        return Changes(upserts, [self._rows.dump_key(key) for key, row in folded.rows.items() if row is None])

    def group(self, key: KeyValues) -> KeyValues:
        """Return the key of the events that a row is made of."""
        return key

    def rows(self, folded: Folded) -> Mapping[KeyValues, Any]:
        """Return the rows that there are after events, by key."""
        return {key: row for key, row in folded.rows.items() if row is not None}

    async def _one_by_one(self, portion: Portion, error: Exception) -> Sequence[Failed]:
        """Find out by halves which event makes what cannot be stored. Each half takes a step of its own."""
        events = portion.events
        if not portion.last_try:
            return [Failed(events[0], error)]
        if len(events) == 1:
            return await self._park(portion, [Failed(events[0], error)])
        half = len(events) // 2
        middle = events[half].recorded.position - 1
        early = Changes(parked=[each for each in portion.changes.parked if each.position <= middle])
        late = portion.changes._replace(parked=[each for each in portion.changes.parked if each.position > middle])
        first = await self.project(
            portion._replace(events=events[:half], step=portion.step._replace(after=middle), changes=early)
        )
        blocked = {each.handed.text for each in first}
        rest = [each for each in events[half:] if each.text not in blocked]
        waiting = [Failed(each) for each in events[half:] if each.text in blocked]
        left = portion._replace(events=rest, step=portion.step._replace(before=middle), changes=late)
        if not rest:
            return [*first, *await self._park(left, waiting)]
        return [*first, *waiting, *await self.project(left._replace(changes=left.with_parked(waiting)))]

    async def _park(self, portion: Portion, failures: Sequence[Failed]) -> Sequence[Failed]:
        """Take the step of a portion none of whose events goes in."""
        await self._database.commit(self.table(portion.suffix), portion.with_parked(failures), portion.step)
        return failures


class GroupedProjector(KeyedProjector):
    """Runs a `GroupedProjection`: where a row is for the one, all rows of a group are for this one."""

    def fingerprint(self) -> Mapping[str, str]:
        """See `Buildable.fingerprint`."""
        return fingerprint(type(self.projection), self._table, until=GroupedProjection)

    async def _stored(self, table: Table, events: Sequence[Handed]) -> dict[KeyValues, Any]:
        groups = tuple({self._rows.dump_key_part(each.key)[0] for each in events})
        selection = Selection(where=((table.key[0], "in", groups),), sort=table.key, limit=MOST_ROWS)
        found = self._rows.load_all((await self._database.select(table, selection))[0] if groups else ())
        return {key: tuple(rows) for key, rows in groupby(found, lambda row: self.group(self._rows.key_of(row)))}

    def _changes(self, stored: Mapping[KeyValues, Any], folded: Folded) -> Changes:
        before = {self._rows.key_of(row): row for key in folded.rows for row in stored.get(key, ())}
        after = self.rows(folded)
        upserts = self._rows.dump_all(row for key, row in after.items() if before.get(key) != row)
        return Changes(upserts, [self._rows.dump_key(key) for key in before if key not in after])

    def group(self, key: KeyValues) -> KeyValues:
        """See `KeyedProjector.group`."""
        return key[:1]

    def rows(self, folded: Folded) -> Mapping[KeyValues, Any]:
        """See `KeyedProjector.rows`."""
        return {self._rows.key_of(row): row for rows in folded.rows.values() for row in rows or ()}
