"""Event queries that no event can match: a condition on one would hold for ever, and a decision would know nothing."""

from __future__ import annotations

from twofold.log.codec.event_types import EventTypes
from twofold.messages.event_query import EventQuery, QueryItem


def refuse_unmatchable(query: EventQuery, events: EventTypes) -> None:
    """Refuse a query with a tag that no event of its types carries.

    Types that are not registered may carry any tag.

    Raises:
        ValueError: the tag, and the tags that the types have.
    """
    for item in query.items:
        if item.types and item.tags:
            _refuse_item(item, events)


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
