"""Event queries in SQL: walks along indexes in the order of positions, so that the limit ends each of them early."""

from __future__ import annotations

from typing import Any

from twofold.engines.postgres.log.batch import bounded_position, item_columns
from twofold.engines.postgres.log.queries import query as named
from twofold.messages.event_query import EventQuery, QueryItem
from twofold.options import PostgresOptions

END = (1 << 63) - 1


def select(
    query: EventQuery, after: int, before: int | None, limit: int, options: PostgresOptions, *, backwards: bool
) -> tuple[bytes, Any]:
    """Return SQL and arguments that read the matching events."""
    arguments: dict[str, Any] = {
        "after": bounded_position(after),
        "before": END if before is None else bounded_position(before),
        "limit": min(limit, END),
    }
    if query.is_all:
        return named("read_all_backwards" if backwards else "read_all"), arguments
    tagged = [item for item in query.items if item.tags]
    walks: list[str] = []
    if types := {name for item in query.items if not item.tags for name in item.types}:
        walks.append(named("walk_types").decode())
        arguments["types"] = sorted(types)
    if len(tagged) > options.planned_items or any(len(item.tags) > options.planned_tags for item in tagged):
        walks.append(named("walk_tags").decode())
        columns = zip(*map(item_columns, tagged), strict=True)
        arguments |= zip(("tags", "more", "tag_types"), map(_texts, columns), strict=True)
    else:
        walks.extend(_walk(item, number, arguments) for number, item in enumerate(tagged))
    union = " UNION ALL ".join(f"({walk})" for walk in walks)
    order = "DESC" if backwards else "ASC"
    return named("read_positions").decode().replace("{walks}", union).replace("{order}", order).encode(), arguments


def select_scan(
    query: EventQuery, after: int, end: int | None, limit: int, options: PostgresOptions
) -> tuple[bytes, Any]:
    """Return SQL and arguments that read the matching events, and one more row as `covered` in `queries.sql` has it."""
    before = None if end is None else max(end, after) + 1
    sql, arguments = select(query, after, before, limit, options, backwards=False)
    return b"(%b) UNION ALL (%b)" % (named("covered"), sql), arguments


def _walk(item: QueryItem, number: int, arguments: dict[str, Any]) -> str:
    """Return a walk for one item. The planner decides what leads: it knows the rarest tag."""
    sources, conditions = [], []
    for n, tag in enumerate(dict.fromkeys(item.tags)):
        arguments[name := f"tag_{number}_{n}"] = tag
        sources.append(f"twofold_event_tags AS t{n}")
        conditions.append(f"t{n}.tag = %({name})s AND t{n}.position > %(after)s AND t{n}.position < %(before)s")
    if item.types:
        arguments[name := f"types_{number}"] = list(item.types)
        sources.append("twofold_events AS e")
        conditions.append(f"e.type = ANY (%({name})s)")
    joined = sources[0] + "".join(f" JOIN {source} USING (position)" for source in sources[1:])
    return f"SELECT position FROM {joined} WHERE {' AND '.join(conditions)} ORDER BY position {{order}} LIMIT %(limit)s"


def _texts(column: tuple[bytes | None, ...]) -> list[str | None]:
    return [value and value.decode() for value in column]  # type: ignore[misc]
