"""Runs grouped projections: where a row is for a keyed one, all rows of a group are for these."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import Any

from twofold.ports.read_database import Changes, Filter, Selection
from twofold.ports.table import Table
from twofold.projections.folding import Folded
from twofold.projections.grouped import GroupedProjection
from twofold.projections.keyed_runner import KeyedRunner
from twofold.projections.keys.keyed_event import KeyedEvent
from twofold.projections.keys.lookups import MOST_ROWS
from twofold.projections.projection import KeyValues


class GroupedRunner(KeyedRunner):
    """Runs a `GroupedProjection`: where a row is for the one, all rows of a group are for this one."""

    folds_single_rows = False
    _fingerprint_until = GroupedProjection

    async def _whole(self, table: Table, found: Sequence[Any]) -> dict[KeyValues, Any]:
        return await self._groups(table, set(map(self.projection.events_key, self._rows.keys_of(found))))

    async def _stored(self, table: Table, events: Sequence[KeyedEvent]) -> dict[KeyValues, Any]:
        return await self._groups(table, {each.key for each in events})

    async def _groups(self, table: Table, keys: Collection[KeyValues]) -> dict[KeyValues, Any]:
        wanted: dict[KeyValues, set[Any]] = {}
        for key in keys:
            *owner, group = self._rows.dump_key_part(key)  # with tenants, one asks tenant by tenant
            wanted.setdefault(tuple(owner), set()).add(group)
        found: list[Any] = []
        for of_owner, groups in wanted.items():
            where: list[Filter] = [(name, "=", value) for name, value in zip(table.key, of_owner, strict=False)]
            where.append((table.key[len(where)], "in", tuple(groups)))
            selection = Selection(where=tuple(where), sort=table.key, limit=MOST_ROWS)
            found += self._rows.load_all((await self._database.select(table, selection))[0])
        key_of, events_key = self._rows.key_of, self.projection.events_key
        return {key: tuple(rows) for key, rows in groupby(found, lambda row: events_key(key_of(row)))}

    def _changes(self, stored: Mapping[KeyValues, Any], folded: Folded) -> Changes:
        before = {self._rows.key_of(row): row for key in folded.rows for row in stored.get(key) or ()}
        after = self.rows_by_key(folded)
        upserts = self._rows.dump_all(row for key, row in after.items() if before.get(key) != row)
        return Changes(upserts, [self._rows.dump_key(key) for key in before if key not in after])

    def rows_by_key(self, folded: Folded) -> Mapping[KeyValues, Any]:
        return {self._rows.key_of(row): row for rows in folded.rows.values() for row in rows or ()}
