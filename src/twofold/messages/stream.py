"""Streams and what an append may expect of them."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, Literal


class StreamState(Enum):
    """What can be expected of a stream besides an exact version."""

    ANY = "any"
    STREAM_EXISTS = "stream exists"

    def __repr__(self) -> str:
        return self.name


RESERVED: Final = "twofold."
"""stored: with this begin the names of streams, of their types and of events that are Twofold's own."""

NO_STREAM: Final = 0
"""Append only if the stream holds no event yet."""

ANY: Literal[StreamState.ANY] = StreamState.ANY
"""Append whatever the stream's version is."""

STREAM_EXISTS: Literal[StreamState.STREAM_EXISTS] = StreamState.STREAM_EXISTS
"""Append only if the stream holds at least one event."""

ExpectedVersion = int | StreamState
"""A version (0, which is `NO_STREAM`: the stream must not exist), `ANY` or `STREAM_EXISTS`."""


def check_expected(expected: Any) -> None:
    """Refuse what is no expected version.

    Raises:
        TypeError: it is neither a number nor one of the constants.
        ValueError: it is a negative number.
    """
    if isinstance(expected, StreamState):
        return
    if not isinstance(expected, int) or isinstance(expected, bool):
        raise TypeError(
            f"an expected version is a number, NO_STREAM, STREAM_EXISTS or ANY, not {expected!r}; write "
            f"expected_version=ANY to append whatever the stream's version is"
        )
    if expected < 0:
        raise ValueError(f"an expected version is not negative, got {expected}; NO_STREAM is 0")


def refuse_reserved(name: str, stream_id: str) -> None:
    """Refuse to end a stream of Twofold's own.

    Raises:
        ValueError: it is one.
    """
    if stream_id.startswith(RESERVED):
        raise ValueError(f"`{name}`: {stream_id!r:.80} is a stream of Twofold's own, which ends by itself")


def holds(expected: ExpectedVersion, version: int) -> bool:
    """Return whether a stream at `version` is as expected."""
    if expected is ANY:
        return True
    return version > 0 if expected is STREAM_EXISTS else version == expected
