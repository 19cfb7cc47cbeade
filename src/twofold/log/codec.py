"""Events to bytes and back: the one place where stored names, upcasters and checksums meet."""

from __future__ import annotations

import dataclasses
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from itertools import groupby, repeat
from typing import Any
from uuid import UUID
from zlib import crc32

import msgspec

from twofold.errors import (
    CorruptEventError,
    InvalidEventError,
    InvalidMessageTypeError,
    LimitExceededError,
    NewerSchemaError,
    UnknownEventTypeError,
    UnreadableEventError,
)
from twofold.log.event_fields import is_pydantic, refuse_naive_datetimes, tagged_fields
from twofold.messages.event import EventType, Metadata, RecordedEvent, Upcaster, event_type_of
from twofold.messages.stored_event import StoredEvent, are_intact, checksummed_names, is_intact
from twofold.ports.event_log import NewEvent, as_new_event

MAX_NAME = 500
MAX_PAYLOAD = 16 * 1024 * 1024
MANY = 16
"""From so many events on, it is worth while to look which of them are alike."""
MAX_PLACED = 10_000
"""Classes in streams whose names are kept in mind."""

_Place = tuple[str, str, type]

_encoder = msgspec.json.Encoder(order="deterministic")  # a set must encode alike on a retry in another process
_escaped_nul = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # and not an escaped backslash before the text u0000


class EventTypes:
    """The event classes that an application knows, each under its stored name.

    Appending or handling a class registers it; `register` is for those that are only read.
    """

    def __init__(self) -> None:
        self._by_class: dict[type, _TypeCodec] = {}
        self._by_name: dict[str, _TypeCodec] = {}
        self._decoders: dict[tuple[str, int], Callable[[bytes], Any]] = {}
        self._placed: dict[_Place, _Placed] = {}

    def register(self, *classes: type) -> None:
        """Make event classes known.

        Raises:
            InvalidMessageTypeError: two classes claim one stored name, or a class cannot be stored as declared.
        """
        for cls in classes:
            self._codec(cls)

    def encode(self, event: object, event_id: UUID, stream_id: str, stream_type: str, metadata: bytes) -> NewEvent:
        """Return the event as a row that waits for its position.

        Raises:
            InvalidEventError: its values do not fit its declaration.
            InvalidMessageTypeError: its class cannot be stored as it is declared.
            LimitExceededError: a name or the payload is too large.
        """
        return self.encode_all([event], [event_id.bytes], stream_id, stream_type, metadata)[0]

    def encode_all(
        self, events: Sequence[object], event_ids: Sequence[bytes], stream_id: str, stream_type: str, metadata: bytes
    ) -> tuple[NewEvent, ...]:
        """Return events of one stream, or of none, as rows that wait for their positions; raises what `encode` raises.

        Raises:
            ValueError: there are not as many ids as events.
        """
        if len(events) != len(event_ids):
            raise ValueError(f"{len(events)} events need as many ids, got {len(event_ids)}")
        if len(events) >= MANY:
            return tuple(self._encode_many(events, event_ids, stream_id, stream_type, metadata))
        rows, placed = [], self._placed
        for event, event_id in zip(events, event_ids, strict=True):
            place = (stream_id, stream_type, type(event))
            codec, name, version, names = placed.get(place) or self._place(place)
            payload = codec.encode(event)
            tags = codec.tags(event) if codec.tagged else ()
            tags_json = _encoder.encode(tags) if tags else b"[]"
            content = crc32(b"".join((event_id, names, tags_json, metadata, payload)))  # content_checksum(...)
            rows.append(
                as_new_event(
                    (event_id, stream_id, stream_type, name, version, payload, metadata, tags, tags_json, content)
                )
            )
        return tuple(rows)

    def _encode_many(
        self, events: Sequence[object], event_ids: Sequence[bytes], stream_id: str, stream_type: str, metadata: bytes
    ) -> Iterator[NewEvent]:
        """Encode column by column what is of one class: for many, that is half as much again as fast."""
        start = 0
        for cls, alike in groupby(events, type):
            place = (stream_id, stream_type, cls)
            codec, name, version, names = self._placed.get(place) or self._place(place)
            run = list(alike)
            payloads, ids = codec.encode_all(run), event_ids[start : start + len(run)]
            tags = [codec.tags(event) for event in run] if codec.tagged else [()] * len(run)
            tags_json = [_encoder.encode(each) if each else b"[]" for each in tags]
            contents = map(crc32, map(b"".join, zip(ids, repeat(names), tags_json, repeat(metadata), payloads)))
            yield from map(
                as_new_event,
                zip(
                    ids, repeat(stream_id), repeat(stream_type), repeat(name), repeat(version), payloads,
                    repeat(metadata), tags, tags_json, contents,
                ),
            )  # fmt: skip
            start += len(run)

    def decode(self, rows: Sequence[StoredEvent]) -> list[RecordedEvent[Any]]:
        """Return rows as events of today's classes, verified and upcast.

        Raises:
            CorruptEventError: a row does not match its checksum.
            UnknownEventTypeError, NewerSchemaError, UnreadableEventError: a row cannot become an event.
        """
        try:
            return self._decode_at_once(rows)
        except Exception:  # of whatever kind: which row it was, and why, is found out one by one
            return [self._decode(row) for row in rows]

    def _decode_at_once(self, rows: Sequence[StoredEvent]) -> list[RecordedEvent[Any]]:
        """Decode with few calls. Fails, too, on a type that comes for the first time."""
        if not are_intact(rows):
            raise ValueError("a row does not match its checksum")
        decoders = self._decoders
        events = [decoders[row.type, row.schema_version](row.payload) for row in rows]
        return list(map(RecordedEvent, events, rows))

    def _decode(self, row: StoredEvent) -> RecordedEvent[Any]:
        if not is_intact(row):
            raise CorruptEventError(row.position)
        decoder = self._decoders.get((row.type, row.schema_version)) or self._decoder(row)
        try:
            return RecordedEvent(decoder(row.payload), row)
        except Exception as error:  # an upcaster or a constructor of the user's may raise anything
            raise UnreadableEventError(row.type, row.position, row.schema_version, str(error)) from error

    def _place(self, place: _Place) -> _Placed:
        """Check the names of a stream, and return what is the same for all of its events of one class."""
        stream_id, stream_type, cls = place
        if stream_id:
            check_name("stream id", stream_id)
        if stream_type:
            check_name("stream type", stream_type)
        codec = self._codec(cls)
        name, version = codec.stored.name, codec.stored.version
        placed = codec, name, version, checksummed_names(stream_id, stream_type, name, version)
        if len(self._placed) > MAX_PLACED:
            self._placed.clear()
        self._placed[place] = placed
        return placed

    def _codec(self, cls: type) -> _TypeCodec:
        if (known := self._by_class.get(cls)) is not None:
            return known
        codec = _TypeCodec(cls)
        for name in (codec.stored.name, *codec.stored.aliases):
            other = self._by_name.get(name)
            if other is not None:
                raise InvalidMessageTypeError(
                    f"{cls.__qualname__} and {other.cls.__qualname__} are both stored as {name!r}; "
                    f"give one of them another name with @event_type(...)"
                )
        for name in (codec.stored.name, *codec.stored.aliases):
            self._by_name[name] = codec
        self._by_class[cls] = codec
        return codec

    def _decoder(self, row: StoredEvent) -> Callable[[bytes], Any]:
        codec = self._by_name.get(row.type)
        if codec is None:
            raise UnknownEventTypeError(row.type, row.position)
        if row.schema_version > codec.stored.version:
            raise NewerSchemaError(row.type, row.position, row.schema_version, codec.stored.version)
        if row.schema_version < 1:
            raise UnreadableEventError(row.type, row.position, row.schema_version, "schema versions start at 1")
        decoder = codec.decoder(row.schema_version)
        self._decoders[row.type, row.schema_version] = decoder
        return decoder


class _TypeCodec:
    """What is worked out once per event class."""

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self.stored: EventType = event_type_of(cls)
        check_name("stored name", self.stored.name)
        self._dump, self._load, self._convert = _serializer(cls)
        self.tagged = tuple(tagged_fields(cls))

    def encode(self, event: object) -> bytes:
        """Encode, and decode again: what cannot be read back must never be stored."""
        try:
            payload = self._dump(event)
            self._load(payload)
        except Exception as error:  # msgspec's, pydantic's, or one of the user's constructor
            raise InvalidEventError(f"{self.cls.__name__} cannot be stored: {error}") from error
        if len(payload) > MAX_PAYLOAD or b"\\" in payload:  # one character is found many times faster than six
            self._check(payload)
        return payload

    def encode_all(self, events: Sequence[object]) -> list[bytes]:
        """Encode events as `encode` does."""
        try:
            payloads = list(map(self._dump, events))
            deque(map(self._load, payloads), maxlen=0)
        except Exception:  # of whatever kind: what is wrong is found out one by one
            return [self.encode(event) for event in events]
        for payload in payloads:
            if len(payload) > MAX_PAYLOAD or b"\\" in payload:
                self._check(payload)
        return payloads

    def _check(self, payload: bytes) -> None:
        if len(payload) > MAX_PAYLOAD:
            raise LimitExceededError(
                f"{self.cls.__name__} takes {len(payload)} bytes, the limit is {MAX_PAYLOAD}; "
                f"store large content elsewhere and its address in the event"
            )
        if b"\\u0000" in payload:
            _refuse_nul(self.cls.__name__, payload)

    def tags(self, event: object) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for field, name in self.tagged:
            value = getattr(event, field)
            values = value if isinstance(value, (tuple, list, set, frozenset)) else (value,)
            tags = [f"{name}:{each.value if isinstance(each, Enum) else each}" for each in values if each is not None]
            for tag in sorted(tags) if isinstance(value, (set, frozenset)) else tags:
                check_name("tag", tag)
                found[tag] = None
        return tuple(found)

    def decoder(self, schema_version: int) -> Callable[[bytes], Any]:
        if schema_version == self.stored.version:
            return self._load
        steps: list[Upcaster] = [self.stored.upcasters[n] for n in range(schema_version, self.stored.version)]
        convert = self._convert

        def upcast(payload: bytes) -> Any:
            data = msgspec.json.decode(payload)
            for step in steps:
                data = step(data)
            return convert(data)

        return upcast


_Placed = tuple[_TypeCodec, str, int, bytes]


def check_name(what: str, name: str) -> None:
    """Refuse a name that an engine could not store.

    Raises:
        LimitExceededError: it is empty, too long, or holds a NUL character or half of a surrogate pair.
    """
    if not 0 < len(name) <= MAX_NAME or "\0" in name or not (name.isascii() or _is_encodable(name)):
        raise LimitExceededError(f"a {what} has 1 to {MAX_NAME} characters and no NUL; got {name[:60]!r}")


def _is_encodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def encode_metadata(metadata: Metadata) -> bytes:
    """Return metadata as the JSON that is stored.

    Raises:
        InvalidEventError: it holds a NUL character.
    """
    encoded = _encoder.encode(metadata)
    if b"\\u0000" in encoded:
        _refuse_nul("the metadata", encoded)
    return encoded


def _refuse_nul(what: str, encoded: bytes) -> None:
    if _escaped_nul.search(encoded):
        raise InvalidEventError(f"{what} holds a NUL character, which PostgreSQL cannot keep in JSON; remove it")


def _serializer(cls: type) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any], Callable[[Any], Any]]:
    """Return how to dump, load and convert-from-builtins a class."""
    if is_pydantic(cls):
        refuse_naive_datetimes(cls)
        load = cls.model_validate_json  # type: ignore[attr-defined]
        # A strict model reads a date or a tuple from JSON only, so that upcast payloads pass through JSON, too.
        return lambda event: event.model_dump_json().encode(), load, lambda data: load(_encoder.encode(data))
    if not dataclasses.is_dataclass(cls) and not issubclass(cls, msgspec.Struct):
        raise InvalidMessageTypeError(
            f"{cls.__qualname__} must be a frozen dataclass, a frozen msgspec.Struct or a pydantic model"
        )
    refuse_naive_datetimes(cls)
    try:
        decoder = msgspec.json.Decoder(cls)
    except (TypeError, NameError) as error:
        raise InvalidMessageTypeError(f"{cls.__qualname__} cannot be stored: {error}") from error
    return _encoder.encode, decoder.decode, lambda data: msgspec.convert(data, cls)
