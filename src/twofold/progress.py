"""How far read models have come, as this process knows it, and those who wait for it."""

from __future__ import annotations

from twofold.head import Head
from twofold.segments import SLOTS, Segment


class Progress:
    """Takes note of what the runners of this process report. What others do is told by the database only."""

    def __init__(self) -> None:
        self._heads: dict[tuple[str, int], Head] = {}
        self._segments: dict[tuple[str, int], dict[Segment, int]] = {}

    def head(self, projection: str, generation: int) -> Head:
        """Return the position up to which a generation is known to be complete."""
        return self._heads.setdefault((projection, generation), Head())

    def reached(self, segment: Segment, position: int) -> None:
        """Take note that a segment has come to a position."""
        generation = segment[:2]
        segments = self._segments.setdefault(generation, {})
        segments[segment] = position
        if segment.is_whole or sum(each.end - each.first for each in segments) == SLOTS:
            self.head(*generation).advance(min(segments.values()))

    def lost(self, segment: Segment) -> None:
        """Take note that somebody else works on a segment from here on."""
        self._segments.get(segment[:2], {}).pop(segment, None)

    def forget(self, projection: str) -> None:
        """Take note that somebody may have set a read model back."""
        for generation in [each for each in self._heads if each[0] == projection]:
            del self._heads[generation]
