"""What this process has just appended, kept for those who follow the log: they need not read it from there again.

1. While any of them follows, each append is noted once it is durable: the positions, types and tags of its events.
2. A follower takes the events up to a position if all of them are noted. Where another process has written in between,
   it reads the log.
3. The oldest are forgotten once there are too many, and all when the log goes back: other events stand there then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from twofold.ports.event_log import Append, Appended, EventLog


class RecentEvent(NamedTuple):
    """What a follower has to know of an event to tell whom it concerns."""

    position: int
    type: str
    tags: Sequence[str]


_Noted = tuple[int, Sequence[tuple[str, Sequence[str]]]]
"""The first position of an append, and the types and tags of its events."""


class RecentAppends:
    """Takes note of the appends of one process to a log, as long as any task follows them.

    Args:
        log: the log.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._appends: deque[_Noted] = deque()
        self._count = 0
        self._kept: list[int] = []
        """How many events each follower wants to be kept."""
        self._times_set_back = 0

    @contextmanager
    def followed(self, kept: int) -> Iterator[None]:
        """Take note of appends until the block ends, and keep about as many of the newest events."""
        self._kept.append(kept)
        try:
            yield
        finally:
            self._kept.remove(kept)
            if not self._kept:
                self._forget()

    def note(self, append: Append, appended: Appended) -> None:
        """Take note of an append that is durable, if any task follows."""
        if not self._kept:
            return
        self._forget_what_was_lost()
        self._appends.append((appended.first, [(event.type, event.tag_names) for event in append.events]))
        self._count += len(append.events)
        while self._count > max(self._kept):
            self._count -= len(self._appends.popleft()[1])

    def between(self, after: int, end: int) -> Sequence[RecentEvent] | None:
        """Return the events behind one position and up to another, in order; None if not all of them are noted."""
        self._forget_what_was_lost()
        found, next_end = list[RecentEvent](), end
        for first, events in reversed(self._appends):
            if first > next_end:
                continue
            if first + len(events) <= next_end or next_end <= after:
                break
            noted = [RecentEvent(first + place, *event) for place, event in enumerate(events)]
            found += reversed(noted[max(after + 1 - first, 0) : next_end + 1 - first])
            next_end = first - 1
        return found[::-1] if next_end <= after else None

    def _forget_what_was_lost(self) -> None:
        if self._log.times_set_back != self._times_set_back:
            self._forget()
            self._times_set_back = self._log.times_set_back

    def _forget(self) -> None:
        self._appends.clear()
        self._count = 0
