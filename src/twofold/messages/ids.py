"""Ids: time-ordered UUIDs (RFC 9562, version 7), for events and commands."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 14):
    from uuid import uuid7
    from uuid import uuid7 as fast_uuid7
else:
    from uuid_utils import uuid7 as fast_uuid7
    from uuid_utils.compat import uuid7

__all__ = ["new_event_ids", "uuid7"]


def new_event_ids(count: int) -> list[bytes]:
    """Return new ids for events, in their order, without a `UUID` made for each of them."""
    return [fast_uuid7().bytes for _ in range(count)]
