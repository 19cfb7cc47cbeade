"""Segments: the parts of a read model that several workers can keep in step with the log side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from zlib import crc32

from twofold.messages.mark import Mark
from twofold.ports.held_back import HeldBack

SLOTS = 256
"""stored: a key's slot is the CRC-32 (ISO 3309) of its text modulo this."""


class Segment(NamedTuple):
    """The rows of one generation of a read model whose keys fall into the slots from `first` to before `end`."""

    projection: str
    generation: int
    first: int = 0
    end: int = SLOTS

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the read model."""
        return self.end - self.first == SLOTS

    def has(self, key: str) -> bool:
        """Return whether the row with this key, as JSON, is one of its own."""
        return self.first <= slot_of(key) < self.end

    def overlaps(self, other: Segment) -> bool:
        """Return whether it shares slots with another segment of its generation."""
        return self.first < other.end and other.first < self.end


class Step(NamedTuple):
    """A segment's way from one position to the next. Only the holder of the segment's epoch may take it."""

    segment: Segment
    epoch: int
    before: int
    after: int
    lease: float = 0.0
    """Seconds for which the holder keeps the segment from here on, by the database's clock."""
    event_id: str = ""
    """Of the event at `after`, as `Mark.text` gives it; empty: not known."""
    before_id: str = ""
    """Of the event at `before`, likewise. A database that was restored may stand at the same position again."""
    log_is_beside: bool = False
    """Whether the log is in the database of the rows. The step is taken only if its event stands at `after` then."""
    held_before: str = ""
    """`HeldBack.text` of the segment at `before`."""
    held_after: str = ""
    """`HeldBack.text` of the segment at `after`."""
    tenant: str = ""
    """Whose events the step is about, if the segment holds tenants back; empty: those of all that are not held back."""

    @property
    def stands(self) -> Mark:
        """What the segment has come to, for those who are furthest."""
        held = HeldBack.stored(self.held_after)
        return held.ahead if held else Mark.stored(self.after, self.event_id)

    @property
    def needs_event(self) -> bool:
        """Whether the step is taken only if its event stands in the log."""
        return self.log_is_beside and bool(self.event_id) and self.stands.position > 0

    def ending_at(self, mark: Mark) -> Step:
        """Return it with another end, for those whose events it is about."""
        if (held := HeldBack.stored(self.held_after or self.held_before)) is None:
            return self._replace(after=mark.position, event_id=mark.text)
        held = held.moved(self.tenant, mark)
        return self._replace(after=held.mark.position, event_id=held.mark.text, held_after=held.text)

    def following(self, earlier: Step) -> Step:
        """Return it as the rest of the way, of which an earlier step is the first part."""
        return self._replace(before=earlier.after, before_id=earlier.event_id, held_before=earlier.held_after)

    def values(self) -> dict[str, Any]:
        """Return the values of `take_step` in `checkpoints.sql`."""
        values = {
            "name": self.segment.projection, "generation": self.segment.generation, "first": self.segment.first,
            "epoch": self.epoch, "before": self.before, "before_id": self.before_id, "after": self.after,
            "event_id": self.event_id, "lease": int(self.lease * 1e6), "held_before": self.held_before,
            "held_after": self.held_after,
        }  # fmt: skip
        if self.needs_event:
            values |= {"stands": self.stands.position, "stands_id": self.stands.text}
        return values


class Parked(NamedTuple):
    """An event that is not in the read model: it failed, or it waits behind an earlier one of its row."""

    position: int
    key: str
    """The key of the row, as JSON."""
    event_id: str
    """Of the event, in hexadecimal digits."""
    cause: str = ""
    """What its projection raised; empty if it waits."""
    traceback: str = ""

    @property
    def slot(self) -> int:
        """Where its key falls."""
        return slot_of(self.key)


def slot_of(key: str) -> int:
    """Return the slot of a key."""
    return crc32(key.encode()) % SLOTS


def bounds(segments: int) -> Sequence[int]:
    """Return where the given number of segments of even size begin, and where the last one ends."""
    return [number * SLOTS // segments for number in range(segments + 1)]
