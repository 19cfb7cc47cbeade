"""How streams end: the events that say so, and what stands in the place of an event that was removed.

A stream is *closed* when its last event is a `StreamClosed`: it is read as before, and takes no more events. It is
*tombstoned* when its last event is a `StreamTombstoned`: then the others are removed, and only their places are left.
stored: change it with care.
"""

from __future__ import annotations

import msgspec

from twofold.messages.event import event_type
from twofold.messages.stored_event import REMOVED, StoredEvent
from twofold.messages.stream import RESERVED

CLOSED = f"{RESERVED}StreamClosed"
TOMBSTONED = f"{RESERVED}StreamTombstoned"
ENDINGS = frozenset((CLOSED, TOMBSTONED))
"""The types of the events behind which a stream takes no more events. The schemas of the engines name them, too."""


@event_type(CLOSED)
class StreamClosed(msgspec.Struct, frozen=True):
    """A stream was closed: this is its last event. What an aggregate or a decider folds does not take it."""

    stream_id: str
    stream_type: str
    reason: str
    by: str = ""
    """Who closed it."""
    successor: str = ""
    """The stream in which it goes on; empty: in none."""


@event_type(TOMBSTONED)
class StreamTombstoned(msgspec.Struct, frozen=True):
    """A stream was ended for ever, and its events removed. A projection that takes it removes what it made of them."""

    stream_id: str
    stream_type: str
    reason: str
    by: str = ""
    """Who asked for it."""
    events: int = 0
    """How many events stood before it in the stream."""


ENDING_CLASSES: dict[str, type] = {CLOSED: StreamClosed, TOMBSTONED: StreamTombstoned}


def is_ended(last: StoredEvent | None) -> bool:
    """Return whether a stream with this last event takes no more events."""
    return last is not None and last.type in ENDINGS


def is_gone(last: StoredEvent | None) -> bool:
    """Return whether a stream that ends with this event, now or at an earlier moment, is tombstoned."""
    return last is not None and last.type in (TOMBSTONED, REMOVED)
