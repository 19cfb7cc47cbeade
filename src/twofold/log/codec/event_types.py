"""Events to bytes and back: the one place where stored names, payloads, tags and checksums meet.

1. `stored_names` checks the names of streams and types.
2. `payload` makes JSON of the event, and refuses what would not come back equal.
3. `tags` gives its tags.
4. `messages/stored_event.py` puts the columns together, and their checksum.

On the way back: the checksum, the stored name, then `upcasting` where the payload is of an older schema version or its
class is gone, else `stored_fields`, then the class. Upcasters may make several events of one row, or none: they are its
parts, in order, and each carries the row.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any, cast
from uuid import UUID

import msgspec

from twofold.arguments import check_class, check_text
from twofold.errors import (
    CorruptEventError,
    InvalidEventError,
    InvalidMessageTypeError,
    NewerSchemaError,
    UnknownEventTypeError,
    UnreadableEventError,
)
from twofold.log.codec.encrypt import Encryption
from twofold.log.codec.fidelity import difference
from twofold.log.codec.payload import PayloadCodec, encoder, refuse_nul
from twofold.log.codec.proofs import Test, proof_of
from twofold.log.codec.stored_names import check_name
from twofold.log.codec.tags import Tags
from twofold.log.codec.upcasting import Part, Parts, upcasted
from twofold.messages.endings import ENDING_CLASSES
from twofold.messages.event import Metadata, RawEvent, RecordedEvent
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import (
    REMOVED,
    EventNames,
    NewEvent,
    StoredEvent,
    are_intact,
    covered_names,
    is_intact,
    may_be_archived,
    new_event,
    new_events,
)
from twofold.messages.stream import RESERVED
from twofold.messages.upcasting import RetiredType
from twofold.ports.archives import Archive

MANY = 16
"""Events in one append from which on they are encoded by class. A lower value slows small appends down."""
MAX_PREPARED = 10_000
"""Classes in streams whose names are remembered. Higher: more memory; lower: names are checked and joined again."""

_OWN = {REMOVED: RetiredType(REMOVED), **dict.fromkeys(ENDING_CLASSES)}
"""What each log may hold, so that all can read it. Of removed events there is nothing to read."""

_ClassInStream = tuple[str, str, type]


class EventTypes:
    """The event classes that an application knows, each under its stored name.

    Appending or handling a class registers it; `register` is for those that are only read.
    """

    def __init__(self) -> None:
        self._by_class: dict[type, PayloadCodec] = {}
        self._by_name: dict[str, PayloadCodec] = {}
        self._retired: dict[str, RetiredType] = {}
        self._decoders: dict[tuple[str, int], _Decoder] = {}
        self._prepared: dict[_ClassInStream, _Prepared] = {}
        self._encryption: Encryption | None = None
        """Encrypts personal fields; None: no class that has some can be registered."""
        self._archive: Archive | None = None
        """Where payloads of closed streams may be; the log itself reads them from there but within transactions."""
        self._appended: set[PayloadCodec] = set()
        self.sources: frozenset[str] = frozenset()
        """The stored names of the types of which upcasters make events of others."""
        self.unrecorded: set[PayloadCodec] = set()
        """What was encoded for the first time since it was last looked at; see `TaggedTypes`."""

    @property
    def codecs(self) -> Sequence[PayloadCodec]:
        """What is known of the registered classes, one by one."""
        return list(self._by_class.values())

    async def _prepare_keys(self, events: Sequence[object]) -> None:
        """Have the keys of the subjects of events at hand, so that encoding them does not block.

        Raises:
            InvalidMessageTypeError: a class cannot be stored as declared.
            StorageError: the key store failed.
        """
        if self._encryption is None:
            return
        subjects = [
            subject
            for event in events
            if (groups := self._codec(type(event)).personal)
            for subject in self._encryption.subjects(groups, event)
        ]
        if subjects:
            await self._encryption.keys.prepare(subjects)

    async def _fetch_keys(self, rows: Sequence[StoredEvent]) -> None:
        """Have the keys of rows at hand, so that decoding them does not block.

        Raises:
            KeyMissingError: the key store lacks the key of a subject.
            StorageError: the key store failed.
        """
        if self._encryption is not None:
            await self._encryption.fetch(rows)

    def _missing_keys(self, rows: Sequence[StoredEvent]) -> Callable[[], object] | None:
        """Return what fetches the keys of rows, and blocks; None if they are at hand."""
        if (encryption := self._encryption) is None or not (missing := encryption.missing(rows)):
            return None
        return partial(encryption.keys.keys, missing)

    def _missing_payloads(self, rows: Sequence[StoredEvent]) -> Callable[[], Sequence[StoredEvent]] | None:
        """Return what gives rows their payloads that are archived, and blocks; None if they have them."""
        return partial(self._archive.whole, rows) if self._archive is not None and may_be_archived(rows) else None

    @property
    def retired(self) -> Sequence[RetiredType]:
        """The registered types whose classes are gone, one by one."""
        return list({each.name: each for each in self._retired.values()}.values())

    def register(self, *classes: type | RetiredType) -> None:
        """Make event classes known, and types whose classes are gone.

        Raises:
            InvalidMessageTypeError: two classes claim one stored name, or a class cannot be stored as declared.
        """
        for each in classes:
            if isinstance(each, RetiredType):
                self._retire(each)
                continue
            check_class("classes", each, error=InvalidMessageTypeError)
            self._codec(each)

    def twin(self) -> EventTypes:
        """Return the same classes, to which others may be added without this one's knowing."""
        twin = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, dict | set):
                setattr(twin, name, value.copy())
        return twin

    def knows(self, type_name: str) -> bool:
        """Return whether events of a type can be read: their class is registered, or what has come of it.

        Raises:
            TypeError: the name is no text.
        """
        check_text("type_name", type_name, may_be_empty=True)
        return type_name in self._by_name or type_name in self._retired or type_name in _OWN

    def class_of(self, type_name: str) -> type | None:
        """Return the class of the events of a type; None if the type is not registered.

        Raises:
            TypeError: the name is no text.
        """
        check_text("type_name", type_name, may_be_empty=True)
        codec = self._by_name.get(type_name)
        return ENDING_CLASSES.get(type_name) if codec is None else codec.cls

    def tags_of(self, type_name: str) -> Tags | None:
        """Return what tags the events of a type carry; None if the type is not registered.

        Raises:
            TypeError: the name is no text.
        """
        check_text("type_name", type_name, may_be_empty=True)
        codec = self._by_name.get(type_name)
        return None if codec is None else codec.tags

    def encode(self, event: object, event_id: UUID, stream_id: str, stream_type: str, metadata: bytes) -> NewEvent:
        """Return the event as a row that waits for its position.

        Raises:
            InvalidEventError: its values do not fit its declaration.
            InvalidMessageTypeError: its class cannot be stored as declared.
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
            raise ValueError(f"{len(events)} events need as many ids, got {len(event_ids)} event_ids")
        if len(events) >= MANY:
            return tuple(self._encode_many(events, event_ids, stream_id, stream_type, metadata))
        rows, prepared = [], self._prepared
        for event, event_id in zip(events, event_ids, strict=True):
            origin = (stream_id, stream_type, type(event))
            codec, names, covered = prepared.get(origin) or self._prepare(origin)
            payload = codec.encode(event)
            if codec.personal:
                payload = self._encrypted(codec, event, event_id, payload, stream_id)
            tags = codec.tags.of(event) if codec.tags.are_declared else ()
            rows.append(new_event(names, covered, event_id, payload, metadata, tags))
        return tuple(rows)

    def _encode_many(
        self, events: Sequence[object], event_ids: Sequence[bytes], stream_id: str, stream_type: str, metadata: bytes
    ) -> Iterator[NewEvent]:
        """Encode column by column what is of one class: for many, that is half as much again as fast."""
        start = 0
        for cls, alike in groupby(events, type):
            origin = (stream_id, stream_type, cls)
            codec, names, covered = self._prepared.get(origin) or self._prepare(origin)
            run = list(alike)
            payloads, ids = codec.encode_all(run), event_ids[start : start + len(run)]
            if codec.personal:
                payloads = [self._encrypted(codec, *each, stream_id) for each in zip(run, ids, payloads, strict=True)]
            tags = list(map(codec.tags.of, run)) if codec.tags.are_declared else [()] * len(run)
            yield from new_events(names, covered, ids, payloads, metadata, tags)
            start += len(run)

    def _encrypted(self, codec: PayloadCodec, event: object, event_id: bytes, payload: bytes, stream_id: str) -> bytes:
        assert self._encryption is not None  # noqa: S101 - else the class was refused
        encrypted, placeholders = self._encryption.encrypt(
            codec.personal, event, event_id, codec.stored.name, payload, stream_id.partition("-")[2]
        )
        codec.refuse_unreadable(placeholders)
        return encrypted

    def decode(self, rows: Sequence[StoredEvent], query: EventQuery | None = None) -> list[RecordedEvent[Any]]:
        """Return rows as events of today's classes, verified and upcast: one for each row, unless upcasters differ.

        Args:
            rows: of the log.
            query: what has selected them: of what upcasters make of them, only the events that it asks for are given.

        Raises:
            CorruptEventError: a row does not match its checksum.
            UnknownEventTypeError, NewerSchemaError, UnreadableEventError: a row cannot become an event.
        """
        try:
            events, is_upcast = self._decode_at_once(rows)
        except Exception:  # of whatever kind: which row it was, and why, is found out one by one
            events, is_upcast = [each for row in rows for each in self._decode(row)], True
        if query is None or query.is_all or not (is_upcast or query.has_sources):
            return events
        return [each for each in events if isinstance(each.event, RawEvent) or query.wants(each.type, each.stored_tags)]

    def _decode_at_once(self, rows: Sequence[StoredEvent]) -> tuple[list[RecordedEvent[Any]], bool]:
        """Decode with few calls, and return whether there was anything to upcast.

        Fails, too, on a type that comes for the first time.
        """
        if not are_intact(rows):
            raise ValueError("a row does not match its checksum")
        name = version = None
        is_upcast = False
        decode: Callable[[bytes], Any] = bytes  # the first row tells which one
        events = []
        encryption = self._encryption
        payloads = None if encryption is None else iter(encryption.decrypt_all(rows))
        for row in rows:
            if row.type != name or row.schema_version != version:  # most are of the class of the one before
                name, version = row.type, row.schema_version
                decode, upcasts = self._decoders[name, version]
                is_upcast = is_upcast or upcasts
            events.append(decode(row.payload if payloads is None else next(payloads)))
        if is_upcast:
            return [each for event, row in zip(events, rows, strict=True) for each in _recorded(event, row)], True
        return list(map(RecordedEvent, events, rows)), False

    def _decode(self, row: StoredEvent) -> list[RecordedEvent[Any]]:
        if not is_intact(row):
            raise CorruptEventError(row.position)
        found = self._decode_payload(row.type, row.schema_version, row.payload, row.position, row.event_id)
        return _recorded(found, row)

    def decode_payload(
        self, type_name: str, schema_version: int, payload: bytes, position: int, event_id: bytes = b""
    ) -> Parts:
        """Return what a stored payload is today, upcast: mostly one event.

        Args:
            type_name: its stored name.
            schema_version: of the payload.
            payload: the stored JSON.
            position: of the event, for the texts of errors.
            event_id: of the event; personal fields are bound to it.

        Raises:
            UnknownEventTypeError, NewerSchemaError, UnreadableEventError: it cannot be read.
            KeyMissingError: the key store lacks the key of a subject.
            StorageError: the key store failed.
        """
        decoded = self._decode_payload(type_name, schema_version, payload, position, event_id)
        return decoded if type(decoded) is Parts else Parts((Part(decoded),))

    def _decode_payload(
        self, type_name: str, schema_version: int, payload: bytes, position: int, event_id: bytes
    ) -> Any:
        """Return the event that a payload is, or its parts, if upcasters have met with it."""
        if self._encryption is not None:
            payload = self._encryption.decrypt(type_name, event_id, payload, position)
        known = self._decoders.get((type_name, schema_version))
        decode, _ = known or self._decoder(type_name, schema_version, position)
        try:
            return decode(payload)
        except Exception as error:  # an upcaster or a constructor of the user's may raise anything
            codec = self._by_name.get(type_name)
            if codec is not None and codec.personal and not isinstance(error, msgspec.MsgspecError):
                raise UnreadableEventError(type_name, position, schema_version, type(error).__name__) from None
            raise UnreadableEventError(type_name, position, schema_version, str(error)) from error

    def _prepare(self, origin: _ClassInStream) -> _Prepared:
        """Check the names of a stream, and return what is the same for all of its events of one class."""
        stream_id, stream_type, cls = origin
        if stream_id:
            check_name("stream id", stream_id)
        if stream_type:
            check_name("stream type", stream_type)
        codec = self._codec(cls)
        _refuse_reserved((stream_id, stream_type), codec)
        if codec not in self._appended:
            self._appended.add(codec)
            self.unrecorded.add(codec)
        names = EventNames(stream_id, stream_type, codec.stored.name, codec.stored.version)
        prepared = codec, names, covered_names(names)
        if len(self._prepared) > MAX_PREPARED:
            self._prepared.clear()
        self._prepared[origin] = prepared
        return prepared

    def _codec(self, cls: type) -> PayloadCodec:
        if (known := self._by_class.get(cls)) is not None:
            return known
        codec = PayloadCodec(cls, self._encryption.keys.blind if self._encryption else None)
        if codec.personal and self._encryption is None:
            raise InvalidMessageTypeError(
                f"{cls.__qualname__} has personal fields, and there is no key store for them; name one: "
                f'Application(…, keys_url="sqlite:///keys.db")'
            )
        for name in codec.names:
            other = self._by_name.get(name)
            if other is not None:
                raise InvalidMessageTypeError(
                    f"{cls.__qualname__} and {other.cls.__qualname__} are both stored as {name!r}; "
                    f"give one of them another name with @event_type(...)"
                )
        self._refuse_retired(codec.names, cls.__qualname__)
        for name in codec.names:
            self._by_name[name] = codec
        self._by_class[cls] = codec
        self.sources = self.sources.union(codec.stored.sources)
        self.register(*codec.stored.made_of)
        return codec

    def _retire(self, retired: RetiredType) -> None:
        for name in retired.names:
            if (codec := self._by_name.get(name)) is not None:
                raise InvalidMessageTypeError(
                    f"{name!r} is the stored name of {codec.cls.__qualname__}, and of a RetiredType; remove one of them"
                )
        self._refuse_retired(retired.names, f"RetiredType({retired.name!r})", retired)
        self._retired |= dict.fromkeys(retired.names, retired)

    def _refuse_retired(self, names: Sequence[str], what: str, but: RetiredType | None = None) -> None:
        if other := next((each for each in map(self._retired.get, names) if each is not None and each != but), None):
            raise InvalidMessageTypeError(
                f"{what} and RetiredType({other.name!r}) are both stored as {other.name!r}; remove one of them"
            )

    def _decoder(self, type_name: str, schema_version: int, position: int) -> _Decoder:
        if (ending := ENDING_CLASSES.get(type_name)) is not None:
            self._codec(ending)
        codec = self._by_name.get(type_name)
        declared = codec.stored if codec else self._retired.get(type_name, _OWN.get(type_name))
        if declared is None:
            raise UnknownEventTypeError(type_name, position)
        if schema_version > declared.version:
            raise NewerSchemaError(type_name, position, schema_version, declared.version)
        if schema_version < 1:
            raise UnreadableEventError(type_name, position, schema_version, "schema versions start at 1")
        if codec and schema_version == codec.stored.version:
            decoder = codec.read, False
        else:
            of = codec.cls if codec else declared
            decoder = upcasted(of, schema_version, self._codec), True  # type: ignore[arg-type]
        self._decoders[type_name, schema_version] = decoder
        return decoder


def _recorded(decoded: Any, row: StoredEvent) -> list[RecordedEvent[Any]]:
    """Return what a row is today; `decoded` is an event, or its parts."""
    if type(decoded) is not Parts:
        return [RecordedEvent(decoded, row)]
    if len(decoded) == 1:
        return [RecordedEvent(decoded[0].event, row, 0, decoded[0].made_type)]
    return [RecordedEvent(event, row, place, made_type) for place, (event, made_type) in enumerate(decoded, 1)]


_Prepared = tuple[PayloadCodec, EventNames, bytes]
_Decoder = tuple[Callable[[bytes], Any], bool]
"""How payloads of a stored name and schema version are read, and whether that gives `Parts`."""


def _refuse_reserved(names: Sequence[str], codec: PayloadCodec) -> None:
    """Refuse an event of the application in a stream of Twofold's own, such as that of an instance of a process.

    Raises:
        InvalidEventError: it is one.
    """
    if codec.stored.name.startswith(RESERVED):
        return
    if reserved := next((name for name in names if name.startswith(RESERVED)), None):
        raise InvalidEventError(
            f"{codec.stored.name} cannot be stored under {reserved!r:.80}: streams and stream types whose names begin "
            f"with {RESERVED!r} are those of processes; choose another name"
        )


def encode_metadata(metadata: Metadata) -> bytes:
    """Return metadata as the JSON that is stored.

    Raises:
        InvalidEventError: a value is of another type than declared, or holds a NUL character.
    """
    try:
        encoded = encoder.encode(metadata)
        if not _is_plain(metadata) and (found := _unlike(metadata, encoded)):
            raise InvalidEventError(f"{found}. Nothing was stored")
    except (TypeError, ValueError) as error:
        raise InvalidEventError(f"the metadata cannot be stored: {error}") from error
    if b"\\u0000" in encoded:
        for name in Metadata.__struct_fields__:
            refuse_nul(f"metadata.{name}", encoder.encode(getattr(metadata, name)))
    return encoded


def _unlike(metadata: Metadata, encoded: bytes) -> str | None:
    return difference(metadata, msgspec.json.decode(encoded, type=Metadata), "metadata")


_is_plain = cast(Test, proof_of(Metadata))
