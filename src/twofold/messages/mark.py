"""Marks: a position together with the event that stands there, which identifies the history up to it."""

from __future__ import annotations

from typing import NamedTuple, Self
from uuid import UUID

from twofold.messages.position import Position


class Mark(NamedTuple):
    """A position, and the id of the event that stands there.

    Positions have no gap and events never change. So the same event at the same position means the same history up to
    there; another event, or none, means that the log was restored to an older state, or is another log.
    """

    position: int = 0
    event_id: bytes = b""
    """The event's id; at position 0, where no event stands, the log's own. Empty: not known, so that any will do."""

    def __str__(self) -> str:
        return f"{self.position} ({UUID(bytes=self.event_id)})" if self.event_id else str(self.position)

    @property
    def text(self) -> str:
        """The id as hexadecimal digits, as checkpoints store it. stored: version with care."""
        return self.event_id.hex()

    @classmethod
    def of(cls, place: Mark | Position | int) -> Mark:
        """Return the mark of a place, however it is given; that of a mere number does not know its event."""
        if isinstance(place, Mark):
            return place
        return cls(int(place), place.event_id if isinstance(place, Position) else b"")

    @classmethod
    def stored(cls, position: int, text: str) -> Self:
        """Return the mark that a checkpoint stores."""
        return cls(position, bytes.fromhex(text))

    def agrees(self, found: Mark | None) -> bool:
        """Return whether this mark is of the history in which `found` stands at its position; None: nothing does."""
        return found is not None and (not self.event_id or self.event_id == found.event_id)


START = Mark()
"""The beginning of whichever log it is."""
