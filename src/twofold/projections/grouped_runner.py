"""Runs grouped projections: where a row is for a keyed one, all rows of a group are for these."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import Any

from twofold.ports.read_database import Changes, Selection
from twofold.ports.table import Table
from twofold.projections.folding import Folded
from twofold.projections.grouped import GroupedProjection
from twofold.projections.keyed_event import KeyedEvent
from twofold.projections.keyed_runner import KeyedRunner
from twofold.projections.lookups import MOST_ROWS
from twofold.projections.projection import KeyValues


class GroupedRunner(KeyedRunner):
    """Runs a `GroupedProjection`: where a row is for the one, all rows of a group are for this one."""

    folds_single_rows = False
    _fingerprint_until = GroupedProjection

    async def _whole(self, table: Table, found: Sequence[Any]) -> dict[KeyValues, Any]:
        return await self._groups(table, {self.group(key) for key in self._rows.keys_of(found)})

    async def _stored(self, table: Table, events: Sequence[KeyedEvent]) -> dict[KeyValues, Any]:
        return await self._groups(table, {each.key for each in events})

    async def _groups(self, table: Table, keys: Collection[KeyValues]) -> dict[KeyValues, Any]:
        groups = tuple({self._rows.dump_key_part(key)[0] for key in keys})
        selection = Selection(where=((table.key[0], "in", groups),), sort=table.key, limit=MOST_ROWS)
        found = self._rows.load_all((await self._database.select(table, selection))[0] if groups else ())
        return {key: tuple(rows) for key, rows in groupby(found, lambda row: self.group(self._rows.key_of(row)))}

    def _changes(self, stored: Mapping[KeyValues, Any], folded: Folded) -> Changes:
        before = {self._rows.key_of(row): row for key in folded.rows for row in stored.get(key, ())}
        after = self.rows_by_key(folded)
        upserts = self._rows.dump_all(row for key, row in after.items() if before.get(key) != row)
        return Changes(upserts, [self._rows.dump_key(key) for key in before if key not in after])

    def group(self, key: KeyValues) -> KeyValues:
        return key[:1]

    def rows_by_key(self, folded: Folded) -> Mapping[KeyValues, Any]:
        return {self._rows.key_of(row): row for rows in folded.rows.values() for row in rows or ()}
