"""Finding the events that a few rows of a read model are made of, without reading the whole log where it has tags.

Where all events of a projection carry the keys of their rows as tags, the queries ask for those tags. The log records
which tags all its events of a type carry. Where one lacks such a tag, or the key is made otherwise, or an upcaster may
have changed it since, the only query asks for all events that the projection handles.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, cast

from twofold.log.event_store import EventStore
from twofold.log.tagged_types import as_tags
from twofold.messages.event import event_type_of
from twofold.messages.event_query import EventQuery, QueryItem
from twofold.messages.tenant_names import TENANT_COLUMN, own_name
from twofold.ports.event_log import EventLog
from twofold.ports.maintenance import PortableLog
from twofold.projections.projection import KeyValues
from twofold.projections.runner import RowRunner
from twofold.queries.key_tags import KeyTags, key_tags, tags_of


class RowsQuery(NamedTuple):
    """Finds all events of some rows. A tag that holds a part of a key finds events of other rows, too."""

    query: EventQuery
    keys: Collection[KeyValues]
    """Of the rows. No other query is for these."""


async def queries_of(
    store: EventStore, runner: RowRunner, keys: Collection[KeyValues], at_once: int
) -> Sequence[RowsQuery]:
    """Return queries that together find all events of some rows, and those of one row by a single query.

    Args:
        store: where the events are.
        runner: the projection's code.
        keys: of the rows.
        at_once: rows whose events one query asks for; those that the same tags find count as one.

    Raises:
        StorageError: the database failed.
    """
    if not keys:
        return []
    carried = await _carried(store.log, runner) if runner.folds_single_rows else {}  # else a key may be part of one
    by_items: dict[Sequence[QueryItem], list[KeyValues]] = {}
    for key in keys:
        by_items.setdefault(_items(carried, runner, key) if carried else (), []).append(key)
    if () in by_items:
        return [RowsQuery(EventQuery.exactly(*runner.projection.handles()), keys)]
    found, queries = list(by_items.items()), list[RowsQuery]()
    for group in (found[start : start + at_once] for start in range(0, len(found), at_once)):
        items = dict.fromkeys(item for its, _ in group for item in its)
        queries.append(RowsQuery(EventQuery(tuple(items)), {key for _, those in group for key in those}))
    return queries


async def _carried(log: EventLog, runner: RowRunner) -> KeyTags:
    """Return which tags hold keys, for each type of which there are events; empty if those of a type have none."""
    table = runner.table("")
    declared = key_tags(runner.projection, table)
    recorded = await cast("PortableLog", log).tagged_types() if hasattr(log, "tagged_types") else {}
    found: dict[str, Sequence[tuple[str, int]]] = {}
    for cls in runner.projection.handles():
        event_type = event_type_of(cls)
        for name in (*event_type.names, *event_type.sources):
            tags = as_tags(recorded[name]) if name in recorded else frozenset[tuple[str, str]]()
            sure = [(tag, place) for tag, place in declared.get(name, ()) if (tag, table.key[place]) in tags]
            if sure and event_type.version == 1:
                found[name] = sure
            elif await log.read(EventQuery.exactly(name), limit=1):
                return {}
    return found


def _items(carried: KeyTags, runner: RowRunner, key: KeyValues) -> tuple[QueryItem, ...]:
    """Return what finds the events of a row; nothing if a part of its key makes no tag that is sure."""
    table = runner.table("")
    types: dict[str, list[str]] = {}
    for name, found in tags_of(carried, table, key).items():
        if not found:
            return ()
        tag = own_name(key[0], found[0]) if table.key[0] == TENANT_COLUMN else found[0]
        types.setdefault(tag, []).append(name)
    return tuple(QueryItem(tuple(names), (tag,)) for tag, names in types.items())
