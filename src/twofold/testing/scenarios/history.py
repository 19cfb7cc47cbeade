"""What has happened before: events with their places in a log, as code would read them from one."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NamedTuple, Self, TypedDict, TypeVar, Unpack
from uuid import UUID

import msgspec

from twofold.arguments import check_instance, check_text, check_whole
from twofold.log.codec.event_types import EventTypes, encode_metadata
from twofold.log.codec.unknown import Decode
from twofold.messages.event import Metadata, RecordedEvent, event_type_of
from twofold.messages.stored_event import EventNames, NewEvent, covered_names, new_event, record
from twofold.processes.instance import microseconds
from twofold.testing.scenarios.claims import Claim
from twofold.testing.scenarios.report import Told

S = TypeVar("S", bound="Scenario")

NEW_YEAR_2026 = datetime(2026, 1, 1, tzinfo=UTC)
"""When the first event of a scenario was recorded."""


@dataclass(frozen=True)
class Stored:
    """An event as earlier code has stored it: `given(Stored("OrderPlaced", version=1, payload={"id": "o1"}))`.

    It is read as a log would give it, through the upcasters of the class that has this name, or had it once.
    """

    type: str | type
    """The stored name, or the class that has it."""
    version: int = field(kw_only=True)
    """The schema version of the payload."""
    payload: Mapping[str, Any] = field(kw_only=True)
    """What was stored, as JSON has it."""

    @property
    def name(self) -> str:
        """The stored name."""
        return event_type_of(self.type).name if isinstance(self.type, type) else self.type


class Where(TypedDict, total=False):
    """Where the first of some events stands, and what is known of all of them."""

    stream: str
    """To which they belong, such as "Order-o1"; by default to none."""
    version: int
    """Of the first one in its stream; by default the next one."""
    position: int
    """Of the first one in the log; by default the next one."""
    metadata: Metadata
    """On whose behalf they were recorded, and why."""
    at: datetime
    """When the first one was recorded, with a time zone; by default a second after the one before it."""


class _Place(NamedTuple):
    stream: str = ""
    version: int | None = None
    position: int | None = None
    metadata: Metadata = Metadata()
    at: datetime | None = None


class Entry(NamedTuple):
    """An event of the past, and its place."""

    what: object
    """An event, or a `Stored`."""
    position: int
    stream: str
    version: int
    metadata: Metadata
    at: datetime

    @property
    def stream_type(self) -> str:
        """What stands before the first hyphen of the stream."""
        return self.stream.partition("-")[0]


@dataclass(frozen=True)
class History:
    """Events of the past, in order."""

    entries: tuple[Entry, ...] = ()
    pace: timedelta = timedelta(seconds=1)
    """Time from one event to the next, unless it is said."""
    by_tenant: bool = False
    """Whether each tenant has streams of its own, which may bear the same names."""

    def add(self, events: Sequence[object], **where: Unpack[Where]) -> History:
        """Return a history with further events, the first of which stands at a place; the others follow it.

        Raises:
            TypeError: one of `where` is of another type.
            ValueError: a position is not behind the one before it, or a version is given and no stream.
        """
        place = _checked(where)
        entries = list(self.entries)
        for event in events:
            entries.append(self._entry(event, entries, place))
            place = place._replace(version=None, position=None, at=None)
        return replace(self, entries=tuple(entries))

    def recorded(self, types: EventTypes, decode: Decode | None = None) -> list[RecordedEvent[Any]]:
        """Return the events as a log would give them: encoded, decoded, upcast, with their records.

        Raises:
            InvalidEventError: one cannot be stored.
            UnknownEventTypeError, NewerSchemaError, UnreadableEventError: one cannot be read.
        """
        rows = [
            record(encoded(each, types), each.position, each.version, microseconds(each.at)) for each in self.entries
        ]
        return (decode or types.decode)(rows)

    def _entry(self, event: object, before: Sequence[Entry], place: _Place) -> Entry:
        last = before[-1] if before else None
        position = place.position or (last.position if last else 0) + 1
        if last and position <= last.position:
            raise ValueError(f"position={position} is not behind the event before it, which is at {last.position}")
        version = place.version
        if version is None and place.stream:
            version = next((each.version for each in reversed(before) if self._is_of(place, each)), 0) + 1
        at = place.at or (last.at + self.pace if last else NEW_YEAR_2026)
        return Entry(event, position, place.stream, version or 0, place.metadata, at)

    def _is_of(self, place: _Place, earlier: Entry) -> bool:
        """Return whether an earlier event is of the stream of a place."""
        is_same = earlier.stream == place.stream
        return is_same and (not self.by_tenant or earlier.metadata.tenant == place.metadata.tenant)


class Scenario:
    """What has happened, and what is done now. Each `given` returns a further scenario; this one stays what it was."""

    def __init__(self, types: EventTypes, history: History | None = None) -> None:
        self._types = types
        self._history = history or History()
        self._since: int | None = None
        """How many events had happened before what is done now; None: nothing is done yet."""
        self._claim: Claim | None = None

    def given(self, *events: object, **where: Unpack[Where]) -> Self:
        """Return a scenario in which these events have happened, too.

        Args:
            events: events, or what earlier code has stored of them (`Stored`).
            where: where they stand, and what is known beside their content; see `Where`.

        Raises:
            TypeError: something was done already, or an argument is of another type.
            ValueError: a position is not behind the one before it, or there is a version and no stream.
        """
        if self._since is not None:
            raise TypeError("what is given stands before what is done: call `given` before `when`")
        return self._with(self._history.add(events, **where))

    def _with(self, history: History) -> Self:
        other = copy.copy(self)
        other._history = history
        return other

    def _when(self, history: History) -> Self:
        other = self._with(history)
        other._since = len(self._history.entries)
        if self._claim is not None:
            self._claim.close()  # what is expected of the later one is expected of both
        other._claim = Claim()
        return other

    def _then(self) -> None:
        if self._claim is not None:
            self._claim.close()

    @property
    def _told(self) -> Told:
        events = [each.what for each in self._history.entries]
        return Told(events[: self._since], [] if self._since is None else events[self._since :])


class Start(Generic[S]):
    """The `given` of a scenario's subject: `given(*events)` begins one. Its arguments are those of `Scenario.given`."""

    def __init__(self, begin: S) -> None:
        self._begin = begin

    def __call__(self, *events: object, **where: Unpack[Where]) -> S:
        """Return a scenario in which these events have happened; see `Scenario.given`."""
        return self._begin.given(*events, **where)


def _checked(where: Where) -> _Place:
    place = _Place(**where)
    check_text("stream", place.stream, may_be_empty=True)
    for name in ("version", "position"):
        if name in where:
            check_whole(name, getattr(place, name), 1)
    if "version" in where and not place.stream:
        raise ValueError('`version` counts the events of a stream; say which one: stream="Order-o1"')
    check_instance("metadata", place.metadata, Metadata, 'such as Metadata(user="ann")')
    if "at" in where and not (isinstance(place.at, datetime) and place.at.tzinfo is not None):
        raise TypeError(f"`at` is a datetime with a time zone, not {place.at!r}")
    return place


def types_of(classes: Iterable[type]) -> EventTypes:
    """Return the types of some classes of events."""
    types = EventTypes()
    types.register(*classes)
    return types


def encoded(entry: Entry, types: EventTypes) -> NewEvent:
    """Return an event of the past as a row that waits for its place.

    Raises:
        InvalidEventError, UnknownEventTypeError, NewerSchemaError, UnreadableEventError: it cannot be stored, or read.
    """
    event_id, metadata = UUID(int=entry.position), encode_metadata(entry.metadata)
    if not isinstance(entry.what, Stored):
        return types.encode(entry.what, event_id, entry.stream, entry.stream_type, metadata)
    old = entry.what
    if isinstance(old.type, type):
        types.register(old.type)
    payload = msgspec.json.encode(old.payload)
    names = EventNames(entry.stream, entry.stream_type, old.name, old.version)
    tags = _tags(types, old, payload, entry.position)
    return new_event(names, covered_names(names), event_id.bytes, payload, metadata, tags)


def _tags(types: EventTypes, old: Stored, payload: bytes, position: int) -> tuple[str, ...]:
    """Return the tags that today's event has; they are added to stored ones as classes get new tags."""
    if not types.knows(old.name):
        return ()
    parts = types.decode_payload(old.name, old.version, payload, position)
    return tuple(dict.fromkeys(tag for each in parts for tag in _tags_of(types, each.event)))


def _tags_of(types: EventTypes, event: object) -> tuple[str, ...]:
    tags = types.tags_of(event_type_of(type(event)).name)
    return tags.of(event) if tags is not None and tags.are_declared else ()
