"""Event queries in SQL: each statement walks one index in the order of positions, so that its limit ends it early."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import cache
from heapq import nlargest, nsmallest

from twofold.event_query import EventQuery, QueryItem

END = (1 << 63) - 1
MANY_TYPES = 16
"""From so many types on, one walk through the whole log is cheaper than a walk through the index of each."""


def positions(
    connection: sqlite3.Connection, query: EventQuery, after: int, before: int | None, limit: int, *, backwards: bool
) -> list[int]:
    """Return up to `limit` positions of matching events between `after` and `before`, in order or in reverse."""
    low, high = after, END if before is None else before
    found: set[int] = set()
    nearest = nlargest if backwards else nsmallest
    for item in query.items:
        for sql, arguments in _walks(connection, item, after, backwards):
            found.update(row[0] for row in connection.execute(sql, (*arguments, low, high, limit)))
            if len(found) > limit:  # beyond the nearest ones, no other walk needs to look
                found = set(nearest(limit, found))
                low, high = (min(found) - 1, high) if backwards else (low, max(found) + 1)
    return sorted(found, reverse=backwards)


def _walks(
    connection: sqlite3.Connection, item: QueryItem, after: int, backwards: bool
) -> Iterator[tuple[str, tuple[str, ...]]]:
    order = "DESC" if backwards else "ASC"
    if item.tags:
        tags = _rarest_first(connection, item.tags, after)
        yield _walk_tags(len(tags), len(item.types), order), (*tags[1:], *item.types, tags[0])
    elif len(item.types) > MANY_TYPES or not item.types:
        yield _walk_log(len(item.types), order), item.types
    else:
        for name in item.types:
            yield _walk_type(order), (name,)


@cache
def _walk_log(types: int, order: str) -> str:
    wanted = f"type IN ({_marks(types)}) AND" if types else ""
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
def _walk_tags(tags: int, types: int, order: str) -> str:
    others = "".join(
        f" CROSS JOIN twofold_event_tags t{n} ON t{n}.tag = ? AND t{n}.position = t.position" for n in range(1, tags)
    )  # a cross join is never reordered: the rarest tag leads
    typed = f" CROSS JOIN twofold_events e ON e.position = t.position AND e.type IN ({_marks(types)})" if types else ""
    return (
        f"SELECT t.position FROM twofold_event_tags t{others}{typed}"
        f" WHERE t.tag = ? AND t.position > ? AND t.position < ? ORDER BY t.position {order} LIMIT ?"
    )


def _rarest_first(connection: sqlite3.Connection, tags: tuple[str, ...], after: int) -> tuple[str, ...]:
    if len(tags) == 1:
        return tags
    counted = "SELECT count(*) FROM (SELECT 1 FROM twofold_event_tags WHERE tag = ? AND position > ? LIMIT 1000)"
    counts = {tag: connection.execute(counted, (tag, after)).fetchone()[0] for tag in tags}
    return tuple(sorted(counts, key=counts.__getitem__))


def _marks(count: int) -> str:
    return ",".join("?" * count)
