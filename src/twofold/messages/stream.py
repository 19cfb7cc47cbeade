"""Streams and what an append may expect of them."""

from __future__ import annotations

from enum import Enum
from typing import Literal


class StreamState(Enum):
    """What can be expected of a stream besides an exact version."""

    ANY = "any"
    STREAM_EXISTS = "stream exists"

    def __repr__(self) -> str:
        return self.name


ANY: Literal[StreamState.ANY] = StreamState.ANY
"""Append whatever the stream's version is."""

STREAM_EXISTS: Literal[StreamState.STREAM_EXISTS] = StreamState.STREAM_EXISTS
"""Append only if the stream holds at least one event."""

ExpectedVersion = int | StreamState
"""A version (0: the stream must not exist), `ANY` or `STREAM_EXISTS`."""


def holds(expected: ExpectedVersion, version: int) -> bool:
    """Return whether a stream at `version` is as expected."""
    if expected is ANY:
        return True
    return version > 0 if expected is STREAM_EXISTS else version == expected
