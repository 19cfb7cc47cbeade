"""How far read models have come, as this process knows it, and waiting for it."""

from __future__ import annotations

from collections.abc import Mapping

from twofold.ports.segments import SLOTS, Segment
from twofold.ports.watermark import Watermark


class Positions:
    """Takes note of what runners of this process report, and of what a database tells of the others."""

    def __init__(self) -> None:
        self._watermarks: dict[tuple[str, int], Watermark] = {}
        self._segments: dict[tuple[str, int], dict[Segment, tuple[int, int]]] = {}

    @property
    def waiters(self) -> int:
        """How many wait for a read model."""
        return sum(watermark.waiters for watermark in self._watermarks.values())

    def watermark(self, projection: str, generation: int) -> Watermark:
        """Return the position up to which a generation is known to be complete."""
        known = self._watermarks.get((projection, generation))
        return known or self._watermarks.setdefault((projection, generation), Watermark())

    def read(self, found: Mapping[Segment, tuple[int, int]]) -> None:
        """Take note of all segments of a generation with their epochs and positions, as the database shows them.

        If an epoch is lower than the one that is known, the database was restored to an older state: what was known is
        forgotten, else all news of the epochs to come would be taken for outdated.
        """
        for segment, (epoch, _) in found.items():
            known = self._segments.get(segment[:2], {})
            if any(each.overlaps(segment) and known[each][0] > epoch for each in known):
                self._segments[segment[:2]] = dict(found)
                self.watermark(*segment[:2]).set_back(min(position for _, position in found.values()))
                return

    def reached(self, segment: Segment, epoch: int, position: int) -> None:
        """Take note that a segment has come to a position under an epoch.

        News of an earlier epoch is outdated, and so is earlier news of its slots. A position may be lower than under an
        earlier epoch, if an operator has set the read model back.
        """
        segments = self._segments.setdefault(segment[:2], {})
        same = [each for each in segments if each.overlaps(segment)]
        if any(segments[each][0] > epoch for each in same):
            return
        is_set_back = any(segments[each][1] > position for each in same)
        for each in same:
            del segments[each]
        segments[segment] = (epoch, position)
        if sum(each.end - each.first for each in segments) == SLOTS:
            complete, watermark = min(position for _, position in segments.values()), self.watermark(*segment[:2])
            watermark.advance(complete)
            if is_set_back:
                watermark.set_back(complete)
