"""Events that find the rows that they are about by what these hold, such as all reservations of a renamed guest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from twofold.log.codec.fidelity import values_getter
from twofold.messages.event import RecordedEvent
from twofold.messages.tenant_names import TENANT_COLUMN
from twofold.ports.read_database import Filter, Selection
from twofold.projections.keys.keyed_event import KeyedEvent, LookupEvent, keyed
from twofold.projections.projection import KeyValues, Projection
from twofold.projections.rows.owned_rows import OwnedRows
from twofold.projections.rows.row_type import RowType

MOST_ROWS = (1 << 62) - 1
"""No limit; as many rows as every engine can count."""
VALUES = 1000
"""Values that one statement looks for, at most: every engine takes as many."""


def keyed_or_lookups(projection: Projection[Any], events: Sequence[RecordedEvent[Any]]) -> list[KeyedEvent]:
    """Return events with their keys, or as those that find their rows.

    Raises:
        ValueError: no row can have the values that an event looks for.
        Exception: whatever `key` of the projection raises.
    """
    finds, rows, found = projection.finds_rows(), projection.stored_rows(), list[KeyedEvent]()
    for recorded in events:
        fields = finds.get(type(recorded.event))
        tenant = recorded.tenant if projection._of_tenants else None
        found += [lookup(rows, recorded, fields, tenant)] if fields else keyed(projection, [recorded])
    return found


def lookup(
    rows: RowType[Any] | OwnedRows, recorded: RecordedEvent[Any], fields: Mapping[str, str], tenant: str | None = None
) -> LookupEvent:
    """Return an event as one that finds its rows.

    Args:
        rows: what the rows look like.
        recorded: the event.
        fields: of the rows, and those of the event that they equal.
        tenant: whose rows they are; None: there are no tenants.

    Raises:
        ValueError: no row can have these values.
        Exception: whatever the event's own properties raise.
    """
    values = tuple(getattr(recorded.event, field) for field in fields.values())
    rows.dump_fields(tuple(fields), values)
    if tenant is None:
        return LookupEvent(recorded, (), tuple(fields), values)
    return LookupEvent(recorded, (), (TENANT_COLUMN, *fields), (tenant, *values))


def selections(rows: RowType[Any] | OwnedRows, lookups: Sequence[LookupEvent], limit: int) -> Iterator[Selection]:
    """Yield the selections that find all rows that events may be about, each of `limit` rows at most."""
    wanted = defaultdict[tuple[str, ...], dict[tuple[Any, ...], None]](dict)
    for each in lookups:
        wanted[each.fields][rows.dump_fields(each.fields, each.values)] = None
    for fields, values in wanted.items():
        listed = list(values)
        for some in (listed[first : first + VALUES] for first in range(0, len(listed), VALUES)):
            columns = [tuple(dict.fromkeys(column)) for column in zip(*some, strict=True)]
            where: tuple[Filter, ...] = tuple((name, "in", each) for name, each in zip(fields, columns, strict=True))
            yield Selection(where=where, sort=rows.key, limit=limit)


class FittingRows:
    """Finds the rows that fit a `LookupEvent`; among them are some that fitted earlier.

    Args:
        projection: whose rows they are.
    """

    def __init__(self, projection: Projection[Any]) -> None:
        self._rows_in = projection.rows_in
        self._getters = {
            (TENANT_COLUMN, *fields) if projection._of_tenants else fields: _getter(fields, projection._of_tenants)
            for fields in map(tuple, projection.finds_rows().values())
        }
        self._keys: Mapping[tuple[str, ...], dict[Any, dict[KeyValues, None]]] = defaultdict(dict)

    def add(self, rows: Mapping[KeyValues, Any]) -> None:
        """Find rows by the values that they have now."""
        for fields, values_of in self._getters.items():
            keys = self._keys[fields]
            for key, folded in rows.items():
                for row in self._rows_in(folded):
                    keys.setdefault(values_of(row), {})[key] = None

    def keys(self, event: LookupEvent) -> Collection[KeyValues]:
        """Return the keys of the rows that may fit."""
        return self._keys[event.fields].get(event.values, ())


def _getter(fields: tuple[str, ...], of_tenants: bool) -> Callable[[Any], tuple[Any, ...]]:
    get = values_getter(fields)
    return (lambda owned: (owned.tenant, *get(owned.row))) if of_tenants else get
