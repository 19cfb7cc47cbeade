"""Runs keyed projections: one read and one write for all rows that a batch of events touches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from twofold.errors import CheckpointMovedError
from twofold.messages.event import RecordedEvent
from twofold.options import FoldOptions
from twofold.ports.read_database import Changes, ReadDatabase, ReadTransaction, Style
from twofold.ports.table import Table
from twofold.projections.failure import INFRASTRUCTURE
from twofold.projections.fingerprint import fingerprint
from twofold.projections.folding import FailedEvent, Folded, KeyedEvent, fold_in_slices, keys_of
from twofold.projections.projection import KeyValues, Projection
from twofold.projections.rows.row_cache import RowCache
from twofold.projections.runner import Drive, Projected, ProjectionBatch, Start


class KeyedRunner:
    """Runs a `Projection`: one read and one write for all rows that a batch touches."""

    start: Start = "beginning"
    has_read_model = True
    beside = None
    trouble = None
    folds_single_rows = True
    _fingerprint_until: type = Projection

    def __init__(
        self,
        database: ReadDatabase,
        projection: Projection[Any],
        batch_size: int,
        drive: Drive,
        folding: FoldOptions = FoldOptions(),  # noqa: B008 - it is immutable
    ) -> None:
        self.projection = projection
        self.drive = drive
        self.folding = folding
        self.name, self.version, self.batch_size = projection.name, projection.version, batch_size
        self.style: Style = "driver"
        self._database = database
        self._table = projection.table()
        self._rows = projection.row_type()
        self._own_key = type(projection).key is not Projection.key
        self._known = RowCache()

    def fingerprint(self) -> Mapping[str, str]:
        return fingerprint(type(self.projection), self._table, until=self._fingerprint_until)

    async def make(self, transaction: ReadTransaction, suffix: str) -> None:
        await transaction.create(self.table(suffix))

    async def check(self, transaction: ReadTransaction, suffix: str) -> None:
        await transaction.check(self.table(suffix))

    async def clear(self, transaction: ReadTransaction, suffix: str) -> None:
        await transaction.empty(self._table.name + suffix)

    async def drop(self, transaction: ReadTransaction, suffix: str) -> None:
        await transaction.drop(self._table.name + suffix)

    async def expose(self, transaction: ReadTransaction, suffix: str) -> None:
        await transaction.expose(self._table.name, self._table.name + suffix)

    @property
    def rows(self) -> Self:
        return self

    def table(self, suffix: str) -> Table:
        return self._table._replace(name=self._table.name + suffix)

    def keyed(self, events: Sequence[RecordedEvent[Any]]) -> list[KeyedEvent]:
        return list(map(KeyedEvent, events, self.keys(events)))

    def keys(self, events: Sequence[RecordedEvent[Any]]) -> list[KeyValues]:
        if self._own_key:
            return keys_of(self.projection, events)
        return self._rows.keys_of([recorded.event for recorded in events])

    async def project(self, batch: ProjectionBatch) -> Projected:
        table, stored = self.table(batch.suffix), self._known.take(batch.step)
        try:
            stored.update(await self._stored(table, [each for each in batch.events if each.key not in stored]))
            folded, count = await fold_in_slices(
                self.projection, stored, batch.events, moving=batch.moving, options=self.folding,
                seconds=self.folding.commit_after if batch.is_divisible else math.inf,
            )  # fmt: skip
            batch, failures = batch.first(count), folded.failures
            if failures and not batch.last_try:
                return Projected(batch.step, failures)
            parked, released = batch.with_parked(failures).parked, batch.changes.released
            rows = self._changes(stored, folded)
            await self._database.commit(table, rows._replace(parked=parked, released=released), batch.step)
        except (CheckpointMovedError, *INFRASTRUCTURE):
            raise
        except Exception as error:  # a key or a row that cannot be stored
            return Projected(batch.step, await self._one_by_one(batch._replace(is_divisible=False), error))
        if not failures:  # what failed may have changed its row before
            stored.update(folded.rows)
            self._known.give_back(batch.step, stored)
        return Projected(batch.step, failures)

    async def _stored(self, table: Table, events: Sequence[KeyedEvent]) -> dict[KeyValues, Any]:
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
        return key

    def rows_by_key(self, folded: Folded) -> Mapping[KeyValues, Any]:
        return {key: row for key, row in folded.rows.items() if row is not None}

    async def _one_by_one(self, batch: ProjectionBatch, error: Exception) -> Sequence[FailedEvent]:
        """Find out by halves which event makes what cannot be stored. Each half takes a step of its own."""
        events = batch.events
        if not batch.last_try:
            return [FailedEvent(events[0], error)]
        if len(events) == 1:
            return await self._park(batch, [FailedEvent(events[0], error)])
        half = len(events) // 2
        early = batch.first(half)
        middle = early.step.after
        late = batch.changes._replace(parked=[each for each in batch.changes.parked if each.position > middle])
        first = (await self.project(early)).failures
        blocked = {each.keyed.text for each in first}
        rest = [each for each in events[half:] if each.text not in blocked]
        waiting = [FailedEvent(each) for each in events[half:] if each.text in blocked]
        left = batch._replace(events=rest, step=batch.step._replace(before=middle), changes=late)
        if not rest:
            return [*first, *await self._park(left, waiting)]
        second = await self.project(left._replace(changes=left.with_parked(waiting)))
        return [*first, *waiting, *second.failures]

    async def _park(self, batch: ProjectionBatch, failures: Sequence[FailedEvent]) -> Sequence[FailedEvent]:
        """Take the step of a batch none of whose events goes in."""
        await self._database.commit(self.table(batch.suffix), batch.with_parked(failures), batch.step)
        return failures
