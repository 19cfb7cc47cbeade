"""What this process has just appended, kept for those who follow the log: they need not read it from there again.

1. While any of them follows, each append is noted once it is durable: the positions, types and tags of its events.
2. A follower takes the events up to a position if all of them are noted. Where another process has written in between,
   it reads the log.
3. The oldest are forgotten once there are too many, and all when the log goes back: other events stand there then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from twofold.ports.event_log import Append, Appended, EventLog


class RecentEvent(NamedTuple):
    """What a follower has to know of an event to tell whom it concerns."""

    position: int
    type: str
    tags: Sequence[str]


class RecentAppends:
    """Takes note of the appends of one process to a log, as long as any task follows them.

    Args:
        log: the log.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._events: dict[int, RecentEvent] = {}
        self._kept: list[int] = []
        """How many events each follower wants to be kept."""
        self._times_set_back = 0

    @contextmanager
    def followed(self, kept: int) -> Iterator[None]:
        """Take note of appends until the block ends, and keep as many of the newest events."""
        self._kept.append(kept)
        try:
            yield
        finally:
            self._kept.remove(kept)
            if not self._kept:
                self._events.clear()

    def note(self, append: Append, appended: Appended) -> None:
        """Take note of an append that is durable, if any task follows."""
        if not self._kept:
            return
        self._forget_what_was_lost()
        for position, event in enumerate(append.events, appended.first):
            self._events[position] = RecentEvent(position, event.type, event.tag_names)
        for _ in range(len(self._events) - max(self._kept)):
            del self._events[next(iter(self._events))]

    def between(self, after: int, end: int) -> Sequence[RecentEvent] | None:
        """Return the events behind one position and up to another, in order; None if not all of them are noted."""
        self._forget_what_was_lost()
        if end - after > len(self._events):
            return None
        found = [self._events.get(position) for position in range(after + 1, end + 1)]
        known = [event for event in found if event is not None]
        return known if len(known) == len(found) else None

    def _forget_what_was_lost(self) -> None:
        if self._log.times_set_back != self._times_set_back:
            self._events.clear()
            self._times_set_back = self._log.times_set_back
