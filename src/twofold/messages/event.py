"""Events: facts that happened, how their classes are stored, and the record of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID, uuid5

import msgspec

from twofold.arguments import check_items, check_text, check_texts, check_whole
from twofold.messages.stored_event import StoredEvent, is_sealed
from twofold.messages.tenant_names import MARK, shown_stream, shown_tags, tenant_of
from twofold.messages.upcasting import RetiredType, Upcaster, check_steps

E_co = TypeVar("E_co", covariant=True)
T = TypeVar("T", bound=type)


class AwareInPydantic:
    """Tell pydantic what `msgspec.Meta(tz=True)` tells msgspec."""

    def __get_pydantic_core_schema__(self, source: object, handler: Callable[[object], dict[str, Any]]) -> Any:
        return handler(source) | {"tz_constraint": "aware"}


AwareDatetime = Annotated[datetime, msgspec.Meta(tz=True), AwareInPydantic()]
"""A datetime that carries its time zone. Events declare this instead of `datetime`, which would admit naive values."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc_now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


class Event:
    """A fact that happened, named in the past tense.

    Declare it as a frozen dataclass; a frozen `msgspec.Struct` or pydantic model serves as well and needs no base.
    """

    __slots__ = ()


@dataclass(frozen=True)
class Tag:
    """Mark an event's field as a tag: `customer_id: Annotated[str, Tag("customer")]` gives `customer:c1`.

    A field that is None gives no tag; one that holds a tuple, list or set gives a tag for each of its values.
    """

    name: str

    def __post_init__(self) -> None:
        check_text("name", self.name)
        if ":" in self.name:
            raise ValueError(f"the name of a tag ends before the colon of `customer:c1`; `name` is {self.name!r}")


class RawEvent(msgspec.Struct, frozen=True):
    """An event as the log holds it, for readers that take events whose classes they do not have.

    `store.subscribe(unknown="raw")` hands one out in place of what this code does not know. A `Reaction` or an
    `SqlProjection` whose `handles()` returns `(RawEvent,)` gets every event of the log so, whatever its type.
    """

    type: str
    """The stored name of its type."""
    schema_version: int
    """The schema version of the payload."""
    payload: bytes
    """The JSON that is stored."""


@dataclass(frozen=True)
class EventType:
    """How a class of events is stored: its name, its schema version and the way from older payloads to today's."""

    name: str
    version: int = 1
    upcasters: Mapping[int, Upcaster] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    made_of: tuple[type | RetiredType, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names under which events of the class are stored: today's, then the former ones."""
        return (self.name, *self.aliases)

    @property
    def sources(self) -> tuple[str, ...]:
        """The names under which events of other types are stored, of which upcasters make events of this one."""
        found, waiting = dict[str, None](), list(self.made_of)
        while waiting:
            source = waiting.pop(0)
            declared = source if isinstance(source, RetiredType) else event_type_of(source)
            if declared.name not in found:
                found |= dict.fromkeys(declared.names)
                waiting += declared.made_of if isinstance(declared, EventType) else ()
        return tuple(found)


def event_type(
    name: str | None = None,
    *,
    version: int = 1,
    upcasters: Mapping[int, Upcaster] | None = None,
    aliases: tuple[str, ...] = (),
    made_of: tuple[type | RetiredType, ...] = (),
) -> Callable[[T], T]:
    """Declare how a class of events is stored; without it, the name is the class's own and the version is 1.

    Args:
        name: the stored name. It must never change, while the class may move and be renamed.
        version: the schema version that is written today.
        upcasters: for each older version n, the pure function from its payload to the one of version n + 1. It may
            also return several payloads, `Into` another class, or None if there is no such event any more.
        aliases: names under which older code stored events that this class now stands for.
        made_of: other classes, or types whose classes are gone, of whose stored events upcasters make events of this
            class. Whatever reads events of this class reads those, too.

    Raises:
        TypeError: an argument is of another type.
        ValueError: an older version has no upcaster, or an upcaster leads nowhere; or a name is empty.
    """
    if name is not None:
        check_text("name", name)
    check_whole("version", version, -math.inf)
    aliases = check_texts("aliases", aliases)
    steps = check_steps(upcasters, version, version - 1)
    check_items("made_of", made_of, lambda each: isinstance(each, type | RetiredType), "classes and RetiredType(…)")

    def declare(cls: T) -> T:
        cls.__event_type__ = EventType(name or cls.__name__, version, steps, aliases, tuple(made_of))  # type: ignore[attr-defined]
        return cls

    return declare


def event_type_of(cls: type) -> EventType:
    """Return how a class of events is stored. A subclass does not inherit its parent's declaration."""
    declared = cls.__dict__.get("__event_type__")
    return declared if isinstance(declared, EventType) else EventType(cls.__name__)


ANY_TYPE = ""
"""Stands for the stored names of all types; none is empty."""


def stored_names(classes: Iterable[type]) -> frozenset[str]:
    """Return the names under which events of some classes are stored; `ANY_TYPE` for `RawEvent`.

    Former names are among them, and those of the types that they are made of.
    """
    if RawEvent in (classes := tuple(classes)):
        return frozenset((ANY_TYPE,))
    return frozenset(name for each in map(event_type_of, classes) for name in (*each.names, *each.sources))


def own_names(classes: Iterable[type]) -> frozenset[str]:
    """Return the names that events of some classes have, without those of the types that they are made of."""
    return frozenset(name for each in classes for name in event_type_of(each).names)


def refuse_base_class(cls: type) -> None:
    """Refuse a class of which no event is stored: events are stored under the names of their own classes.

    Raises:
        TypeError: it is no class, or only the base of classes of events.
    """
    if not isinstance(cls, type):
        raise TypeError(f"{cls!r} is no class of events")
    is_declared = isinstance(cls.__dict__.get("__event_type__"), EventType)
    subclasses: list[type] = type.__subclasses__(cls)
    below = [each.__name__ for each in subclasses if each.__qualname__ != cls.__qualname__]
    if cls is Event or (below and not is_declared):
        shown = ", ".join(below[:3]) or "OrderCreated"
        raise TypeError(
            f"{cls.__name__} is the base of other events, which are stored under names of their own; name each of "
            f"them: {shown}"
        )


class Metadata(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known about an event besides its content: who, why, on behalf of what."""

    correlation_id: UUID | None = None
    causation_id: UUID | None = None
    command_id: UUID | None = None
    tenant: str | None = None
    user: str | None = None
    extra: dict[str, str] = {}


_metadata_decoder = msgspec.json.Decoder(Metadata)
_tags_decoder = msgspec.json.Decoder(tuple[str, ...])


class RecordedEvent(msgspec.Struct, Generic[E_co], frozen=True, gc=False, eq=False):
    """An event with its place in the log. What is rarely asked for is decoded when it is asked for."""

    event: E_co
    """The event, upcast to today's class."""
    stored: StoredEvent
    """The row as it stands in the log."""
    part: int = 0
    """Which of the events it is that an upcaster has made of the row, from 1; 0 if the row is one event."""
    made_type: str = ""
    """The name of its type, if an upcaster has made it of an event of another type."""

    @property
    def position(self) -> int:
        """Place in the global log, from 1."""
        return self.stored.position

    @property
    def event_id(self) -> UUID:
        """Identity of the event, unique in the log; of the second and each further part of a row, made of that."""
        event_id = UUID(bytes=self.stored.event_id)
        return event_id if self.part < 2 else uuid5(event_id, f"part {self.part}")

    @property
    def stream_id(self) -> str:
        """The stream it belongs to; empty for an event of no stream."""
        stream_id = self.stored.stream_id
        return shown_stream(stream_id, _tags_decoder.decode(self.stored.tags)) if MARK in stream_id else stream_id

    @property
    def stream_type(self) -> str:
        """The type of its stream; empty for an event of no stream."""
        return self.stored.stream_type

    @property
    def version(self) -> int:
        """Number of events in its stream up to and including it; 0 for an event of no stream."""
        return self.stored.version

    @property
    def type(self) -> str:
        """The stored name of its type; of an event of another type that an upcaster has made, the name of that."""
        return self.made_type or self.stored.type

    @property
    def schema_version(self) -> int:
        """The schema version of the stored payload; `event` is upcast to today's."""
        return self.stored.schema_version

    @property
    def metadata(self) -> Metadata:
        """Correlation, causation, command, tenant and user."""
        return _metadata_decoder.decode(self.stored.metadata)

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags, such as `customer:c1`."""
        return shown_tags(_tags_decoder.decode(self.stored.tags))

    @property
    def stored_tags(self) -> tuple[str, ...]:
        """Its tags as the log has them: with tenants, they say whose they are."""
        return _tags_decoder.decode(self.stored.tags)

    @property
    def tenant(self) -> str:
        """Whose event it is, in an application with tenants; empty if it is no tenant's."""
        return tenant_of(self.stored)

    @property
    def recorded_at(self) -> datetime:
        """When it was appended, aware, in UTC, in microseconds, by the clock of the writer or the server."""
        return EPOCH + timedelta(microseconds=self.stored.recorded_at)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RecordedEvent) and self.part == other.part and self.stored == other.stored

    def __hash__(self) -> int:
        return hash(self.stored)

    def __repr__(self) -> str:
        # Texts come into logs and error reports, which no forgetting reaches: personal fields are not shown.
        shown = f"{self.type} (personal)" if is_sealed(self.stored.payload) else repr(self.event)
        return f"<{self.position}: {self.stream_id}@{self.version} {shown}>"
