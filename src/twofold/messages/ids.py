"""Ids: time-ordered UUIDs (RFC 9562, version 7), for events and commands."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from hashlib import sha1
from uuid import UUID, SafeUUID

if sys.version_info >= (3, 14):
    from uuid import uuid7
    from uuid import uuid7 as fast_uuid7
else:
    from uuid_utils import uuid7 as fast_uuid7

    _new, _set = object.__new__, object.__setattr__

    def uuid7() -> UUID:
        """Return a new id. `UUID(...)` would check it for three times as long as it takes to make."""
        made = _new(UUID)
        _set(made, "int", fast_uuid7().int)
        _set(made, "is_safe", SafeUUID.unknown)
        return made


__all__ = ["event_ids_of", "new_event_ids", "uuid7"]


def new_event_ids(count: int) -> list[bytes]:
    """Return new ids for events, in their order, without a `UUID` made for each of them."""
    return [fast_uuid7().bytes for _ in range(count)]


def event_ids_of(command_id: UUID, places: Iterable[int]) -> list[bytes]:
    """Return the ids of a command's events at these places: the bytes of `uuid5(command_id, str(place))`.

    They take a third of the time of `uuid5`, which makes a `UUID` for each.
    """
    return [_as_version_5(sha1(command_id.bytes + b"%d" % place, usedforsecurity=False).digest()) for place in places]


def _as_version_5(digest: bytes) -> bytes:
    return b"%b%c%c%c%b" % (digest[:6], digest[6] & 0x0F | 0x50, digest[7], digest[8] & 0x3F | 0x80, digest[9:16])
