"""The rows of the log, and the checksum that each of them carries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple
from zlib import crc32


class StoredEvent(NamedTuple):
    """A row of the log. The order of the fields is the order of the columns on every engine."""

    position: int
    event_id: bytes
    stream_id: str
    stream_type: str
    version: int
    type: str
    schema_version: int
    payload: bytes
    metadata: bytes
    tags: bytes
    """JSON array of strings."""
    recorded_at: int
    """Microseconds since 1970-01-01 UTC."""
    checksum: int


as_stored_event: Callable[[Iterable[object]], StoredEvent] = partial(tuple.__new__, StoredEvent)
"""Make a row of a driver's tuple; `StoredEvent._make`, without a call of Python's own for each of millions."""

SEAL_MODULUS = 4_294_967_291
"""The largest prime below 2**32: no flipped bit of a number changes it by a multiple of this."""


def checksummed_names(stream_id: str, stream_type: str, type: str, schema_version: int) -> bytes:
    """Return what an event is called, as the checksum covers it."""
    return f"{stream_id}\0{stream_type}\0{type}\0{schema_version}\0".encode()


def content_checksum(
    event_id: bytes,
    stream_id: str,
    stream_type: str,
    type: str,
    schema_version: int,
    payload: bytes,
    metadata: bytes,
    tags_json: bytes,
) -> int:
    """Return the CRC-32 (ISO 3309, as zlib) over all that an event is before it has a position."""
    names = checksummed_names(stream_id, stream_type, type, schema_version)
    return crc32(b"".join((event_id, names, tags_json, metadata, payload)))


def seal(content: int, position: int, version: int, recorded_at: int) -> int:
    """Return the stored checksum: the content's, mixed with what the log itself allots. Any flipped bit changes it."""
    return content ^ ((position * 31 + version * 17 + recorded_at) % SEAL_MODULUS)


def is_intact(row: StoredEvent) -> bool:
    """Return whether a row matches its checksum: `seal(content_checksum(...), ...)`, in one step for speed."""
    position, event_id, stream_id, stream_type, version, type_name, schema, payload, metadata, tags, at, checksum = row
    try:
        names = f"{stream_id}\0{stream_type}\0{type_name}\0{schema}\0".encode()
        content = crc32(b"".join((event_id, names, tags, metadata, payload)))
        return content ^ ((position * 31 + version * 17 + at) % SEAL_MODULUS) == checksum
    except (TypeError, ValueError):  # a damaged file may hold a value of another type, or none
        return False


def are_intact(columns: Sequence[Sequence[Any]]) -> bool:
    """Return whether rows, given column by column, all match their checksums: `is_intact`, in half the time."""
    positions, ids, streams, stream_types, versions, types, schemas, payloads, metadata, tags, at, checksums = columns
    names = [
        f"{stream}\0{stream_type}\0{name}\0{schema}\0".encode()
        for stream, stream_type, name, schema in zip(streams, stream_types, types, schemas, strict=True)
    ]
    contents = map(crc32, map(b"".join, zip(ids, names, tags, metadata, payloads, strict=True)))
    return list(checksums) == [
        content ^ ((position * 31 + version * 17 + moment) % SEAL_MODULUS)
        for content, position, version, moment in zip(contents, positions, versions, at, strict=True)
    ]
