"""Event queries before they go to a log: what no event can match is refused where it is a mistake, else left out.

A tag that no event of the types carries is a mistake in the code: a condition on it would hold for ever. A text that no
log can hold, such as an id with a NUL character that a client has sent, is none: it matches nothing, on every engine.
"""

from __future__ import annotations

from twofold.arguments import check_instance
from twofold.log.codec.event_types import EventTypes
from twofold.log.codec.stored_names import can_be_stored
from twofold.messages.event_query import AppendCondition, EventQuery, QueryItem

NOTHING = EventQuery((QueryItem(("",)),))
"""Matches no event: no type has an empty name."""


def matchable(query: EventQuery, events: EventTypes) -> EventQuery:
    """Return a query without what no event can match because no log can hold its text.

    Types that are not registered may carry any tag.

    Raises:
        ValueError: no event of the types carries a tag; the text names it, and the tags that the types have.
    """
    for item in query.items:
        if item.types and item.tags:
            _refuse_item(item, events)
    if all(can_be_stored(text) for item in query.items for text in (*item.types, *item.tags)):
        return query
    items = [each for each in map(_storable, query.items) if each is not None]
    return EventQuery(tuple(items)) if items else NOTHING


def matchable_condition(condition: AppendCondition, events: EventTypes) -> AppendCondition:
    """Return a condition with the query that `matchable` gives; raises what it raises.

    Raises:
        TypeError: it is no condition.
    """
    check_instance("condition", condition, AppendCondition, "such as `decision.condition`")
    query = matchable(condition.fail_if, events)
    return condition if query is condition.fail_if else AppendCondition(query, condition.after)


def _storable(item: QueryItem) -> QueryItem | None:
    types = tuple(filter(can_be_stored, item.types))
    if (item.types and not types) or not all(map(can_be_stored, item.tags)):
        return None
    return QueryItem(types, item.tags, item.sources)


def _refuse_item(item: QueryItem, events: EventTypes) -> None:
    found = [events.tags_of(name) for name in item.types]
    known = [each for each in found if each is not None]
    if len(known) < len(found) or any(all(map(each.may_hold, item.tags)) for each in known):
        return
    missing = [tag for tag in item.tags if not any(each.may_hold(tag) for each in known)] or item.tags
    has = ", ".join(sorted({name for each in known for name in each.names})) or "none"
    raise ValueError(
        f"no event of the type {' or '.join(item.types)} carries {' and '.join(map(repr, missing))}, so that the query "
        f"matches nothing; these types have the tags {has}, from fields that are annotated with Tag"
    )
