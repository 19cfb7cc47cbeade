"""How many events are read at once: more and more, as long as they fit into memory."""

from __future__ import annotations

from collections.abc import Sequence

from twofold.messages.stored_event import StoredEvent

MAX_BYTES = 16 << 20
"""Payload that is read at once, about: where events are large, fewer of them."""


class Pace:
    """Tells how many events to read next, if they are like the last ones.

    Args:
        first: so many to begin with.
        most: never more than so many.
    """

    def __init__(self, first: int, most: int) -> None:
        self.size = min(first, most)
        self._most = most

    def adapt(self, rows: Sequence[StoredEvent]) -> None:
        """Learn from what was just read: twice as many may follow, or as many as fit."""
        if rows:
            fitting = len(rows) * MAX_BYTES // max(sum([len(row.payload) for row in rows]), 1)
            self.size = max(1, min(2 * self.size, fitting, self._most))
