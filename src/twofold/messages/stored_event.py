"""The rows of the log, and the checksum that each of them carries."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import msgspec


class StoredEvent(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A row of the log. The order of the fields is the order of the columns on every engine.

    The garbage collector need not look at it: there are many of these, and no cycle goes through one.
    """

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
    """Return whether a row matches its checksum."""
    try:
        return are_intact([row])
    except (TypeError, ValueError):  # a damaged file may hold a value of another type, or none
        return False


def are_intact(rows: Sequence[StoredEvent]) -> bool:
    """Return whether rows all match their checksums: `seal(content_checksum(...), ...)`, step by step for all at once.

    Raises:
        TypeError, ValueError: a row holds a value of another type.
    """
    covered = [
        b"".join(
            (
                row.event_id,
                f"{row.stream_id}\0{row.stream_type}\0{row.type}\0{row.schema_version}\0".encode(),
                row.tags,
                row.metadata,
                row.payload,
            )
        )
        for row in rows
    ]
    return [row.checksum for row in rows] == [
        content ^ ((row.position * 31 + row.version * 17 + row.recorded_at) % SEAL_MODULUS)
        for content, row in zip(map(crc32, covered), rows, strict=True)
    ]
