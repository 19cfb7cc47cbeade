"""The columns of the log: one list of them, what the checksum covers, and the events that they make up.

`StoredEvent` is the list. Each engine derives its SELECT, its INSERT, its arrays and its copies from it, as the
checksum and the comparison of repeats do. A new column is a field of `StoredEvent` and of `NewEvent`, behind the
others; `new_event` and `new_events` give its value; and the schema of each engine says how it is stored. The checksum
covers texts and numbers before bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import partial
from itertools import repeat
from operator import attrgetter
from typing import Annotated, NamedTuple, cast, get_type_hints
from zlib import crc32

import msgspec
from msgspec.structs import astuple, replace


class ColumnKind(Enum):
    """How an engine stores the values of a column. The values are those of PostgreSQL's types."""

    ID = "uuid"
    """16 bytes."""
    NAME = "text"
    NUMBER = "integer"
    LARGE = "bigint"
    JSON = "json"
    """Bytes, which come back unchanged."""


Id = Annotated[bytes, ColumnKind.ID]
Name = Annotated[str, ColumnKind.NAME]
Number = Annotated[int, ColumnKind.NUMBER]
Large = Annotated[int, ColumnKind.LARGE]
Json = Annotated[bytes, ColumnKind.JSON]


MARKER = "~personal"
"""stored: the name under which the encrypted fields stand, as the first one of a payload."""
SEALED = b'{"' + MARKER.encode() + b'":'
"""stored: so begins a payload with encrypted fields."""


def is_sealed(payload: bytes) -> bool:
    """Return whether a stored payload holds encrypted fields."""
    return payload.startswith(SEALED)


class StoredEvent(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A row of the log: first what the log allots, then what the event brings along, as `NewEvent` has it.

    The garbage collector need not look at it: there are many of these, and no cycle goes through one.
    """

    position: Large
    version: Number
    """0 without a stream."""
    recorded_at: Large
    """Microseconds since 1970-01-01 UTC."""
    checksum: Large
    stream_id: Name
    """Empty, as its type, if the event belongs to no stream."""
    stream_type: Name
    type: Name
    schema_version: Number
    event_id: Id
    payload: Json
    metadata: Json
    tags: Json
    """JSON array of strings."""


class NewEvent(NamedTuple):
    """An encoded event that waits for its position: the columns that it brings along, and two values made of them."""

    stream_id: str
    stream_type: str
    type: str
    schema_version: int
    event_id: bytes
    payload: bytes
    metadata: bytes
    tags: bytes
    tag_names: tuple[str, ...]
    """What `tags` holds."""
    content_checksum: int
    """Of all columns above."""


class EventNames(NamedTuple):
    """What is the same for all events of one class in one stream: the first columns of `NewEvent`."""

    stream_id: str
    stream_type: str
    type: str
    schema_version: int


COLUMNS: dict[str, ColumnKind] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(StoredEvent, include_extras=True).items()
    if name in StoredEvent.__struct_fields__
}
"""The columns of the log and their kinds, in the order of `StoredEvent`."""

BROUGHT: dict[str, ColumnKind] = {name: COLUMNS[name] for name in NewEvent._fields[:-2]}
"""Those that an event brings along, in the order of `NewEvent`."""

_payload_of = attrgetter("payload")
_of_content = attrgetter(*[name for name in BROUGHT if name != "metadata"])
_as_new_event: Callable[[Iterable[object]], NewEvent] = partial(tuple.__new__, NewEvent)
_NAMES = "%s\0" * len(EventNames._fields)
_encode_tags = msgspec.json.Encoder().encode

REMOVED = "twofold.EventRemoved"
"""The type of a row whose event was removed. Readers get no event of it. stored: change it with care."""

ARCHIVED = b'{"~archived":'
"""How a payload begins that stands in the place of one that was archived. stored: change it with care."""
_ARCHIVED_IN = re.compile(re.escape(ARCHIVED) + rb"([1-9][0-9]{0,17})[}]")

SEAL_MODULUS = 4_294_967_291
"""The largest prime below 2**32: no flipped bit of a number changes it by a multiple of this."""


def covered_names(names: EventNames) -> bytes:
    """Return what the checksum covers of the names that are the same for many events."""
    return (_NAMES % names).encode()


def new_event(
    names: EventNames, covered: bytes, event_id: bytes, payload: bytes, metadata: bytes, tag_names: tuple[str, ...]
) -> NewEvent:
    """Return the columns that an event brings along.

    Args:
        names: the stream and the type of the event.
        covered: `covered_names` of them.
        event_id: its id.
        payload: JSON of its fields.
        metadata: JSON of its metadata.
        tag_names: its tags.
    """
    tags = _encode_tags(tag_names) if tag_names else b"[]"
    content = crc32(b"".join((covered, event_id, payload, metadata, tags)))  # content_checksum(...)
    return _as_new_event(names + (event_id, payload, metadata, tags, tag_names, content))  # noqa: RUF005 (twice as fast)


def new_events(
    names: EventNames,
    covered: bytes,
    event_ids: Iterable[bytes],
    payloads: Sequence[bytes],
    metadata: bytes,
    tag_names: Sequence[tuple[str, ...]],
) -> Iterable[NewEvent]:
    """Return what `new_event` returns for each of many events, with fewer calls of Python."""
    ids, metadatas = list(event_ids), [metadata] * len(payloads)
    tags = [_encode_tags(each) if each else b"[]" for each in tag_names]
    contents = map(crc32, map(b"".join, zip(repeat(covered), ids, payloads, metadatas, tags)))
    columns = (*map(repeat, names), ids, payloads, metadatas, tags)
    return map(_as_new_event, zip(*columns, tag_names, contents, strict=False))


_IN_BYTES = [name for name, kind in BROUGHT.items() if kind in (ColumnKind.ID, ColumnKind.JSON)]
_IN_WORDS = [name for name in BROUGHT if name not in _IN_BYTES]
"""What the checksum covers first: names and numbers, which are often the same as those of the row before."""
_WORDS = "%s\\0" * len(_IN_WORDS)


def _covered() -> Callable[[NewEvent | StoredEvent], bytes]:
    """Return the function that gives the bytes that a checksum covers; its source is made of the columns, once."""
    words, parts = (", ".join(f"row.{name}" for name in names) for names in (_IN_WORDS, _IN_BYTES))
    source = f"lambda row: b''.join((('{_WORDS}' % ({words},)).encode(), {parts}))"
    return cast("Callable[[NewEvent | StoredEvent], bytes]", eval(source))  # noqa: S307


_covered_of = _covered()


def content_checksum(event: NewEvent | StoredEvent) -> int:
    """Return the CRC-32 (ISO 3309, as zlib) over all columns that an event brings along."""
    return crc32(_covered_of(event))


def seal(content: int, position: int, version: int, recorded_at: int) -> int:
    """Return the stored checksum: the content's, mixed with what the log itself allots. Any flipped bit changes it."""
    return content ^ ((position * 31 + version * 17 + recorded_at) % SEAL_MODULUS)


def record(event: NewEvent, position: int, version: int, recorded_at: int) -> StoredEvent:
    """Return the row of an event at the place that the log allots to it."""
    return StoredEvent(position, version, recorded_at, seal(event[-1], position, version, recorded_at), *event[:-2])


def is_repeat(event: NewEvent, stored: StoredEvent) -> bool:
    """Return whether a row with its id is this event, stored by an earlier try, whose metadata may have been others.

    Of an event that was removed, only the id and the stream tell; of one that is archived, the checksum of its row.
    """
    if stored.type == REMOVED:
        return event.stream_id == stored.stream_id
    if archive_number(stored):
        stored = replace(stored, payload=event.payload)
        return is_intact(stored) and _of_content(event) == _of_content(stored)
    return _of_content(event) == _of_content(stored)


def archived_payload(number: int) -> bytes:
    """Return what stands in the place of a payload that is in an archive of this number."""
    return b"%s%d}" % (ARCHIVED, number)


def may_be_archived(rows: Sequence[StoredEvent]) -> bool:
    """Return whether payloads of some rows may be in an archive; for most logs it is false, after a look at each."""
    try:
        if not rows or max(map(_payload_of, rows)) < ARCHIVED:  # a third of what `startswith` takes for each
            return False
        return any(row.payload.startswith(ARCHIVED) for row in rows)  # others are encrypted
    except (TypeError, AttributeError):  # a damaged file may hold a value of another type, or none
        return True


def archive_number(row: StoredEvent) -> int:
    """Return the number of the archive that has the payload of a row; 0 if it stands in the row itself.

    An event of a user's own may look like that; then it matches its checksum.
    """
    payload = row.payload
    if not isinstance(payload, bytes | memoryview) or not (found := _ARCHIVED_IN.fullmatch(payload)) or is_intact(row):
        return 0
    return int(found[1])


def is_intact(row: StoredEvent) -> bool:
    """Return whether a row matches its checksum."""
    try:
        return are_intact([row])
    except (TypeError, ValueError):  # a damaged file may hold a value of another type, or none
        return False


_CHECK = f"""
def are_intact(rows):
    last = None
    for {", ".join(COLUMNS)} in map(astuple, rows):
        words = ({", ".join(_IN_WORDS)},)
        if words != last:
            last, covered = words, ('{_WORDS}' % words).encode()
        content = crc32(b"".join((covered, {", ".join(_IN_BYTES)})))
        if checksum != content ^ ((position * 31 + version * 17 + recorded_at) % SEAL_MODULUS):
            return False
    return True
"""
"""`seal(content_checksum(...), ...)` of each row, over plain variables: with calls it takes twice as long."""


def _check() -> Callable[[Sequence[StoredEvent]], bool]:
    made: dict[str, Callable[[Sequence[StoredEvent]], bool]] = {}
    exec(_CHECK, {"astuple": astuple, "crc32": crc32, "SEAL_MODULUS": SEAL_MODULUS}, made)  # noqa: S102
    return made["are_intact"]


are_intact = _check()
"""Return whether rows all match their checksums; raises `TypeError` or `ValueError` on a value of another type."""
