"""How far read models have come, as this process knows it, and those who wait for it."""

from __future__ import annotations

from twofold.head import Head
from twofold.segments import SLOTS, Segment


class Positions:
    """Takes note of what runners of this process report, and of what a database tells of the others."""

    def __init__(self) -> None:
        self._heads: dict[tuple[str, int], Head] = {}
        self._segments: dict[tuple[str, int], dict[Segment, int]] = {}

    @property
    def waiters(self) -> int:
        """How many wait for a read model."""
        return sum(head.waiters for head in self._heads.values())

    def head(self, projection: str, generation: int) -> Head:
        """Return the position up to which a generation is known to be complete."""
        return self._heads.setdefault((projection, generation), Head())

    def reached(self, segment: Segment, position: int) -> None:
        """Take note that a segment has come to a position; earlier news of its slots is thereby outdated."""
        segments = self._segments.setdefault(segment[:2], {})
        if segment not in segments:
            for other in [each for each in segments if each.first < segment.end and segment.first < each.end]:
                del segments[other]
        segments[segment] = position
        if segment.is_whole or sum(each.end - each.first for each in segments) == SLOTS:
            self.head(*segment[:2]).advance(min(segments.values()))

    def forget(self, projection: str) -> None:
        """Take note that somebody may have set a read model back."""
        for known in (self._heads, self._segments):
            for generation in [each for each in known if each[0] == projection]:
                del known[generation]
