"""Event queries in SQL: each statement walks one index in the order of positions, so that its limit ends it early."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from functools import cache
from heapq import nlargest, nsmallest

from twofold.engines.sqlite.integrity import check_positions
from twofold.messages.event_query import EventQuery, QueryItem

END = (1 << 63) - 1
MANY_TYPES = 16
"""Types from which on one walk through the whole log is cheaper than a walk through the index of each."""
MOST_JOINS = 20
"""SQLite joins at most 64 tables; an item with more tags than this names the others in one list."""
MOST_MARKS = 1000
"""SQLite takes at most 32 766 parameters; an item with more types than this names them in one list."""


def is_one_walk(query: EventQuery) -> bool:
    """Return whether one walk along one index, which its limit ends, finds what a query selects."""
    return query.is_all or (len(query.items) == 1 and len(query.items[0].types) + len(query.items[0].tags) == 1)


def positions(
    connection: sqlite3.Connection, query: EventQuery, after: int, before: int, limit: int, *, backwards: bool
) -> list[int]:
    """Return up to `limit` positions of matching events between `after` and `before`, in order or in reverse."""
    low, high = after, before
    found: set[int] = set()
    nearest = nlargest if backwards else nsmallest
    for item in query.items:
        for sql, arguments in _walks(connection, item, after, backwards):
            named = [row[0] for row in connection.execute(sql, (*arguments, low, high, limit))]
            check_positions(named)
            found.update(named)
            if len(found) > limit:  # beyond the nearest ones, no other walk needs to look
                found = set(nearest(limit, found))
                low, high = (min(found) - 1, high) if backwards else (low, max(found) + 1)
    return sorted(found, reverse=backwards)


def _walks(
    connection: sqlite3.Connection, item: QueryItem, after: int, backwards: bool
) -> Iterator[tuple[str, tuple[str, ...]]]:
    order = "DESC" if backwards else "ASC"
    listed = len(item.types) > MOST_MARKS
    types = (json.dumps(item.types),) if listed else item.types
    if item.tags:
        first, *others = _rarest_first(connection, item.tags, after)
        joined, rest = others[:MOST_JOINS], others[MOST_JOINS:]
        arguments = (*joined, *types, first, *([json.dumps(rest)] if rest else ()))
        yield _walk_tags(len(joined), bool(rest), len(types), listed, order), arguments
    elif len(item.types) > MANY_TYPES or not item.types:
        yield _walk_log(len(types), listed, order), types
    else:
        for name in item.types:
            yield _walk_type(order), (name,)


@cache
def _walk_log(types: int, listed: bool, order: str) -> str:
    wanted = f"type IN ({_values(types, listed)}) AND" if types else ""
    return (
        f"SELECT position FROM twofold_events NOT INDEXED WHERE {wanted} position > ? AND position < ?"
        f" ORDER BY position {order} LIMIT ?"
    )


@cache
def _walk_type(order: str) -> str:
    return (
        "SELECT position FROM twofold_events INDEXED BY twofold_events_by_type"
        f" WHERE type = ? AND position > ? AND position < ? ORDER BY position {order} LIMIT ?"
    )


@cache
def _walk_tags(others: int, rest: bool, types: int, listed: bool, order: str) -> str:
    # A cross join is never reordered: the rarest tag leads.
    joins = "".join(
        f" CROSS JOIN twofold_event_tags t{n} ON t{n}.tag = ? AND t{n}.position = t.position" for n in range(others)
    )
    if types:
        joins += f" CROSS JOIN twofold_events e ON e.position = t.position AND e.type IN ({_values(types, listed)})"
    lacks = "SELECT 1 FROM twofold_event_tags o WHERE o.tag = wanted.value AND o.position = t.position"
    complete = f" AND NOT EXISTS (SELECT 1 FROM json_each(?) wanted WHERE NOT EXISTS ({lacks}))" if rest else ""
    return (
        f"SELECT t.position FROM twofold_event_tags t{joins}"
        f" WHERE t.tag = ?{complete} AND t.position > ? AND t.position < ? ORDER BY t.position {order} LIMIT ?"
    )


def _rarest_first(connection: sqlite3.Connection, tags: tuple[str, ...], after: int) -> tuple[str, ...]:
    if len(tags) == 1:
        return tags
    counted = "SELECT count(*) FROM (SELECT 1 FROM twofold_event_tags WHERE tag = ? AND position > ? LIMIT 1000)"
    counts = {tag: connection.execute(counted, (tag, after)).fetchone()[0] for tag in tags}
    return tuple(sorted(counts, key=counts.__getitem__))


def _values(count: int, listed: bool) -> str:
    return "SELECT value FROM json_each(?)" if listed else ",".join("?" * count)
