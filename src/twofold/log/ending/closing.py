"""Closing a stream: its last events are a summary and a `StreamClosed`, and it takes no more.

This is the pattern that accountants call closing the books (Oskar Dudycz describes it for event sourcing): a stream
that would grow for ever ends after a period, with an event that sums it up, and another stream begins with what is
carried forward. All of it is one append.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from twofold.arguments import check_instance, check_text
from twofold.log.appender import Appender, StreamPart
from twofold.log.codec.stored_names import check_name
from twofold.messages.endings import StreamClosed
from twofold.messages.event import Metadata
from twofold.messages.event_query import AppendCondition
from twofold.messages.receipt import Receipt
from twofold.messages.stream import NO_STREAM, ExpectedVersion, check_expected, refuse_reserved


class NextStream(NamedTuple):
    """The stream in which a closed one goes on. It must not exist yet."""

    stream_id: str
    stream_type: str
    events: Sequence[Any]
    """Its first events, such as one that carries forward what the summary says."""


async def close_stream(
    appender: Appender,
    stream_id: str,
    stream_type: str,
    *,
    expected_version: ExpectedVersion,
    reason: str,
    by: str,
    summary: Sequence[object],
    successor: NextStream | None,
    condition: AppendCondition | None,
    metadata: Metadata | None,
) -> Receipt[None]:
    """Do what `EventStore.close_stream` promises."""
    _check_stream(stream_id, stream_type, "")
    check_expected(expected_version)
    check_text("reason", reason)
    check_text("by", by, may_be_empty=True)
    if isinstance(summary, str | bytes) or not isinstance(summary, Sequence):
        raise TypeError(f"`summary` is a list of events, not {summary!r:.60}; write [event]")
    following = ""
    if successor is not None:
        check_instance("successor", successor, NextStream)
        _check_stream(successor.stream_id, successor.stream_type, "successor.")
        following = successor.stream_id
        if following == stream_id:
            raise ValueError(f"`successor` is the stream {stream_id!r} itself; a closed stream goes on in another one")
    closed = StreamClosed(stream_id, stream_type, reason, by, following)
    parts = [StreamPart(stream_id, stream_type, [*summary, closed], expected_version, is_closed=True)]
    if successor is not None:
        parts.append(StreamPart(following, successor.stream_type, successor.events, NO_STREAM))
    return await appender.write_streams(parts, condition, metadata)


def _check_stream(stream_id: str, stream_type: str, of: str) -> None:
    for name, value in (("stream_id", stream_id), ("stream_type", stream_type)):
        check_text(f"{of}{name}", value)
        check_name(name.replace("_", " "), value, f"{of}{name}")
    refuse_reserved(f"{of}stream_id", stream_id)
