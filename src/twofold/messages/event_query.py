"""Event queries and append conditions, with the semantics of https://dcb.events/specification/."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator

import msgspec

from twofold.arguments import check_instance, check_items, check_texts, check_whole, shown
from twofold.messages.event import Event, RawEvent, event_type_of


class QueryItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Matches an event that has one of the types and all of the tags. No types: any type. No tags: any event."""

    types: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    """Those of the types of which only what upcasters make of them is wanted."""

    def __post_init__(self) -> None:
        check_texts("tags", self.tags)
        check_texts("sources", self.sources)
        if not isinstance(self.types, tuple) or not all(isinstance(each, str) for each in self.types):
            raise TypeError(f"`types` are stored names, not {shown(self.types)}; EventQuery.of(…) takes classes")

    def matches(self, type_name: str, tags: Collection[str]) -> bool:
        """Return whether a stored event of this type with these tags is matched."""
        return (not self.types or type_name in self.types) and all(tag in tags for tag in self.tags)

    def wants(self, type_name: str, tags: Collection[str]) -> bool:
        """Return whether an upcast event is one of those that are asked for."""
        return type_name not in self.sources and self.matches(type_name, tags)


class EventQuery(msgspec.Struct, frozen=True):
    """A filter on the log: an event matches if one of the items matches it.

    Raises:
        ValueError: there is no item; `EventQuery.all()` says "every event", an empty query says nothing.
    """

    items: tuple[QueryItem, ...]

    def __post_init__(self) -> None:
        check_items("items", self.items, lambda each: isinstance(each, QueryItem), "QueryItems")
        if not self.items:
            raise ValueError("`items` is empty; an event query needs an item; use EventQuery.all() for every event")

    @classmethod
    def all(cls) -> EventQuery:
        """Match every event."""
        return cls((QueryItem(),))

    @classmethod
    def of(cls, *types: type | str, tags: Iterable[str] = ()) -> EventQuery:
        """Match events that have one of the types and all of the tags.

        Args:
            types: classes, each with its subclasses, or stored names; by default any.
            tags: such as `customer:c1`; by default none.

        Raises:
            TypeError: `tags` is a single string, which would be taken for its characters, or one of them is no string;
                or a type is neither a string nor a class of which events can be stored.
        """
        meant = dict.fromkeys(each for declared in types for each in _with_subclasses(declared))
        return cls.exactly(*meant, tags=tags)

    @classmethod
    def exactly(cls, *types: type | str, tags: Iterable[str] = ()) -> EventQuery:
        """Match as `of` does, without the subclasses of the classes. `RawEvent` stands for events of any type."""
        if isinstance(tags, str):
            raise TypeError(f"tags are several strings; write tags=[{tags!r}]")
        if not isinstance(tags, Iterable):
            raise TypeError(f"tags are several strings, not {shown(tags)}; write tags=[…]")
        tags = tuple(tags)
        for tag in tags:
            if not isinstance(tag, str) or not tag:
                raise TypeError(f'tags are made of texts; a tag is a text such as "customer:c1", got {tag!r}')
        named = () if RawEvent in types else types
        names = dict.fromkeys(name for each in named for name in _names(each))
        sources = [name for each in named for name in _sources(each) if name not in names]
        return cls((QueryItem(tuple(dict.fromkeys([*names, *sources])), tags, tuple(dict.fromkeys(sources))),))

    @property
    def is_all(self) -> bool:
        """Whether every event matches."""
        return any(not item.types and not item.tags for item in self.items)

    def matches(self, type_name: str, tags: Collection[str]) -> bool:
        """Return whether a stored event of this type with these tags matches."""
        return any(item.matches(type_name, tags) for item in self.items)

    def wants(self, type_name: str, tags: Collection[str]) -> bool:
        """Return whether an upcast event is one of those that are asked for."""
        return any(item.wants(type_name, tags) for item in self.items)

    @property
    def has_sources(self) -> bool:
        """Whether it reads types of which only what upcasters make of them is wanted."""
        return any(item.sources for item in self.items)

    def __or__(self, other: EventQuery) -> EventQuery:
        return EventQuery(tuple(dict.fromkeys(self.items + other.items)))


def _with_subclasses(declared: type | str) -> Iterator[type | str]:
    """Return a class and its subclasses, as far as events of them can be stored."""
    if isinstance(declared, str):
        yield declared
        return
    _refuse_other(declared)
    found = [declared, *_below(declared)] if declared is not Event else []
    storable = [each for each in found if _is_storable(each)]
    if not storable:
        raise TypeError(
            f"no event can be a {declared.__qualname__} itself; name the classes of the events, or use EventQuery.all()"
        )
    yield from storable


def _refuse_other(declared: object) -> None:
    if not isinstance(declared, type | str) or not declared:
        raise TypeError(
            f"an event query names classes or stored names, not {declared!r}; its types are given one by one: "
            f"EventQuery.of(OrderCreated, OrderCancelled)"
        )


def _below(cls: type) -> Iterator[type]:
    below: list[type] = type.__subclasses__(cls)
    for each in below:
        yield each
        yield from _below(each)


def _is_storable(cls: type) -> bool:
    is_struct = issubclass(cls, msgspec.Struct) and cls is not msgspec.Struct
    return is_struct or dataclasses.is_dataclass(cls) or bool(getattr(cls, "model_fields", None))


def _names(declared: type | str) -> tuple[str, ...]:
    _refuse_other(declared)
    if isinstance(declared, str):
        return (declared,)
    if not _is_storable(declared):
        raise TypeError(f"no event can be a {declared.__qualname__}; name the classes of the events")
    return event_type_of(declared).names


def _sources(declared: type | str) -> tuple[str, ...]:
    return () if isinstance(declared, str) else event_type_of(declared).sources


class AppendCondition(msgspec.Struct, frozen=True):
    """Fail the append if an event that matches the query stands after the position.

    `after=None` considers the whole log. A position beyond the head is allowed and considers what comes after it.
    """

    fail_if: EventQuery
    after: int | None = None

    def __post_init__(self) -> None:
        check_instance("fail_if", self.fail_if, EventQuery, "such as EventQuery.of(OrderCreated)")
        if self.after is not None:
            check_whole("after", self.after)
