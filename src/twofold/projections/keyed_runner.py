"""Runs keyed projections: one read and one write for all rows that a batch of events touches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from twofold.errors import CheckpointMovedError
from twofold.messages.event import RecordedEvent
from twofold.options import FoldOptions
from twofold.ports.inline import Ask, Steps, WriteRows, WriteStep
from twofold.ports.read_database import IDLE, Changes, ReadDatabase, ReadTransaction, Style
from twofold.ports.segments import Segment
from twofold.ports.table import Table
from twofold.projections.failure import INFRASTRUCTURE
from twofold.projections.fingerprint import fingerprint
from twofold.projections.folding import Folded, fold_in_slices
from twofold.projections.halves import by_halves
from twofold.projections.keys.keyed_event import (
    FailedEvent,
    KeyedEvent,
    LookupEvent,
    key_text,
    keyed,
    owned_key,
    start_of_event,
)
from twofold.projections.keys.lookups import MOST_ROWS, keyed_or_lookups, selections
from twofold.projections.projection import KeyValues, Projection
from twofold.projections.rows.row_cache import RowCache
from twofold.projections.runner import Drive, Projected, ProjectionBatch, Start


class KeyedRunner:
    """Runs a `Projection`: one read and one write for all rows that a batch touches."""

    start: Start = "beginning"
    has_read_model = True
    max_wait: float | None = None
    beside = None
    trouble = None
    folds_single_rows = True
    reads_others = False
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
        self._rows = projection.stored_rows()
        self._plain_rows = projection.row_type()
        self._own_key = type(projection).key is not Projection.key
        self._finds_rows = projection.finds_rows()
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
        if self._finds_rows:
            return keyed_or_lookups(self.projection, events)
        if self._own_key:
            return keyed(self.projection, events)
        keys = self._plain_rows.keys_of([recorded.event for recorded in events])
        if self.projection._of_tenants:
            keys = [owned_key(recorded, key) for recorded, key in zip(events, keys, strict=True)]
        return list(map(KeyedEvent, events, keys))

    async def project(self, batch: ProjectionBatch) -> Projected:
        table, stored = self.table(batch.suffix), self._known.take(batch.step)
        try:
            batch, rows = await self._loaded(table, batch, stored)
            folded, count = await fold_in_slices(
                self.projection, rows, batch.events, moving=batch.moving, options=self.folding,
                seconds=self.folding.commit_after if batch.is_divisible else math.inf,
            )  # fmt: skip
            batch, failures = batch.first(count), folded.failures
            if failures and not batch.last_try:
                return Projected(batch.step, failures)
            parked, released = batch.with_parked(failures).parked, batch.changes.released
            changes = self._changes(stored, folded)
            await self._database.commit(table, changes._replace(parked=parked, released=released), batch.step)
        except (CheckpointMovedError, *INFRASTRUCTURE):
            raise
        except Exception as error:  # a key or a row that cannot be stored
            return Projected(batch.step, await self._one_by_one(batch._replace(is_divisible=False), error))
        if not failures:  # what failed may have changed its row before
            stored.update(folded.rows)
            self._known.give_back(batch.step, stored)
        return Projected(batch.step, failures)

    async def _loaded(
        self, table: Table, batch: ProjectionBatch, stored: dict[KeyValues, Any]
    ) -> tuple[ProjectionBatch, Mapping[KeyValues, Any]]:
        """Load the rows that a batch is about and that are not known, and return the batch with all that it is about.

        Of a divisible batch it is the first half, or the half of that, as long as its events find too many rows.
        """
        found: dict[KeyValues, Any] = {}
        while lookups := [each for each in batch.events if isinstance(each, LookupEvent)] if self._finds_rows else []:
            most = self.folding.found_rows if batch.is_divisible and len(batch.events) > 1 else MOST_ROWS
            those = await self._find(table, batch.step.segment, lookups, most)
            if those is not None:
                found = those
                break
            half = start_of_event(batch.events, len(batch.events) // 2)
            batch = batch.first(half) if half else batch._replace(is_divisible=False)
        direct = [each for each in batch.events if each.key] if lookups else batch.events
        stored.update({key: row for key, row in found.items() if key not in stored})
        stored.update(await self._stored(table, [each for each in direct if each.key not in stored]))
        if not lookups:
            return batch, stored
        keys = dict.fromkeys([*found, *(each.key for each in direct)])
        return batch, {key: stored[key] for key in keys if key in stored}

    async def _find(
        self, table: Table, segment: Segment, lookups: Sequence[LookupEvent], most: int
    ) -> dict[KeyValues, Any] | None:
        """Return the stored rows of a segment that events find; None if they find more than `most` of all segments."""
        found = list[Any]()
        for selection in selections(self._rows, lookups, most + 1):
            found += self._rows.load_all((await self._database.select(table, selection))[0])
            if len(found) > most:
                return None
        rows = await self._whole(table, found)
        return rows if segment.is_whole else {key: row for key, row in rows.items() if segment.has(key_text(key))}

    async def _whole(self, table: Table, found: Sequence[Any]) -> dict[KeyValues, Any]:
        """Return found rows by their keys, each with all that is folded together with it."""
        return dict(zip(self._rows.keys_of(found), found, strict=True))

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

    def rows_by_key(self, folded: Folded) -> Mapping[KeyValues, Any]:
        return {key: row for key, row in folded.rows.items() if row is not None}

    async def _one_by_one(self, batch: ProjectionBatch, error: Exception) -> Sequence[FailedEvent]:
        """Find out by halves which event makes what cannot be stored."""
        if not batch.last_try:
            return [FailedEvent(batch.events[0], error)]
        if not start_of_event(batch.events, len(batch.events) // 2):
            return await self._row_by_row(batch, error)

        async def step(left: ProjectionBatch) -> None:
            await self._database.commit(self.table(left.suffix), left.changes, left.step)

        return await by_halves(batch, self.project, step)

    async def _row_by_row(self, batch: ProjectionBatch, error: Exception) -> Sequence[FailedEvent]:
        """Find out for which of its rows one event cannot be stored, park it for these, and take the step."""
        [first, *others] = batch.events
        table, rows, failures = self.table(batch.suffix), dict[KeyValues, Any](), list[FailedEvent]()
        if not others and first.key:
            failures.append(FailedEvent(first, error))
            await self._database.commit(table, batch.with_parked(failures), batch.step)
            return failures
        own = []
        for each in batch.events:
            try:
                await self._loaded(table, batch._replace(events=[each]), rows)
                own.append(each)
            except (CheckpointMovedError, *INFRASTRUCTURE):
                raise
            except Exception as no_key:  # a key that cannot be stored
                failures.append(FailedEvent(each, no_key))
        folded, _ = await fold_in_slices(self.projection, rows, own, moving=batch.moving, options=self.folding)
        failures += folded.failures
        async with self._database.transaction(idle=batch.step.lease or IDLE) as transaction:
            await transaction.carry_out(self._write_rows(table, batch, rows, folded, failures))
        return failures

    def _write_rows(
        self,
        table: Table,
        batch: ProjectionBatch,
        stored: Mapping[KeyValues, Any],
        folded: Folded,
        failures: list[FailedEvent],
    ) -> Steps[None]:
        """Write what one event makes of its rows, each for itself, and take the step; add what cannot be stored."""
        for key, row in folded.rows.items():
            yield Ask("SAVEPOINT twofold_row")
            try:
                yield WriteRows(table, self._changes(stored, Folded({key: row})))
            except Exception as error:
                failures.append(FailedEvent(KeyedEvent(batch.events[0].recorded, key), error))
                yield Ask("ROLLBACK TO SAVEPOINT twofold_row")
            yield Ask("RELEASE SAVEPOINT twofold_row")
        yield WriteStep(table, batch.with_parked(failures), batch.step)
