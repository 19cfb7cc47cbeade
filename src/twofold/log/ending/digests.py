"""The digests of events, which the chain of hashes links: that of an event stays when the event is removed."""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from twofold.messages.stored_event import StoredEvent


class _Removed(msgspec.Struct):
    digest: str


def as_removed(row: StoredEvent) -> bytes:
    """Return the payload of what takes the place of an event that is removed. stored: change it with care."""
    return msgspec.json.encode(_Removed(digest_of(row).hex()))


def removed_digest(row: StoredEvent) -> bytes:
    """Return the digest of what stood in the place of a removed event; empty if what stands there does not say it."""
    try:
        return bytes.fromhex(msgspec.json.decode(row.payload, type=_Removed).digest)
    except (msgspec.MsgspecError, ValueError):
        return b""


def digest_of(row: StoredEvent) -> bytes:
    """Return the digest of an event and its place. stored: change it with care."""
    texts = (row.stream_id, row.stream_type, row.type)
    parts = [each.encode() for each in texts] + [row.event_id, bytes(row.payload), bytes(row.metadata)]
    numbers = (row.position, row.version, row.recorded_at, row.schema_version, *map(len, parts))
    digest = blake2b(digest_size=32)
    digest.update(" ".join(map(str, numbers)).encode() + b"\n")
    digest.update(b"".join(parts))
    return digest.digest()
