"""How far read models have come, as this process knows it, and waiting for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from weakref import WeakValueDictionary

from twofold.ports.held_back import reached
from twofold.ports.segments import SLOTS, Segment
from twofold.ports.watermark import Watermark


class _Known(NamedTuple):
    epoch: int
    position: int
    held_back: str

    def reached(self, tenant: str) -> int:
        """Return up to where the segment is complete for a tenant; without a name, for all."""
        return reached(self.held_back, tenant) if tenant and self.held_back else self.position


class Positions:
    """Takes note of what runners of this process report, and of what a database tells of the others."""

    def __init__(self) -> None:
        self._watermarks: dict[tuple[str, int], Watermark] = {}
        self._segments: dict[tuple[str, int], dict[Segment, _Known]] = {}
        self._of_tenants: dict[tuple[str, int], WeakValueDictionary[str, Watermark]] = {}
        """Those of tenants for which a task waits, for the generations that hold any tenant back."""

    @property
    def waiters(self) -> int:
        """How many wait for a read model."""
        of_all = sum(watermark.waiters for watermark in self._watermarks.values())
        if not self._of_tenants:
            return of_all
        return of_all + sum(each.waiters for own in self._of_tenants.values() for each in own.values())

    def watermark(self, projection: str, generation: int, tenant: str = "") -> Watermark:
        """Return the position up to which a generation is known to be complete: for all, or for one tenant.

        Those two differ only while the generation holds tenants back.
        """
        place = (projection, generation)
        if tenant and (own := self._of_tenants.get(place)) is not None:
            if (of_tenant := own.get(tenant)) is None:
                of_tenant = own[tenant] = Watermark()
                of_tenant.advance(self._complete(place, tenant))
            return of_tenant
        known = self._watermarks.get(place)
        return known or self._watermarks.setdefault(place, Watermark())

    def holds_back(self, projection: str, generation: int) -> bool:
        """Return whether a generation is known to hold any tenant back."""
        return (projection, generation) in self._of_tenants

    def read(self, found: Mapping[Segment, tuple[int, int]]) -> None:
        """Take note of all segments of a generation with their epochs and positions, as the database shows them.

        If an epoch is lower than the one that is known, the database was restored to an older state: what was known is
        forgotten, else all news of the epochs to come would be taken for outdated.
        """
        for segment, (epoch, _) in found.items():
            known, place = self._segments.get(segment[:2], {}), segment[:2]
            if any(each.overlaps(segment) and known[each].epoch > epoch for each in known):
                self._segments[place] = {each: _Known(*its, "") for each, its in found.items()}
                self._of_tenants.pop(place, None)
                self.watermark(*place).set_back(min(position for _, position in found.values()))
                return

    def reached(self, segment: Segment, epoch: int, position: int, held_back: str = "") -> None:
        """Take note that a segment has come to a position under an epoch.

        News of an earlier epoch is outdated, and so is earlier news of its slots. A position may be lower than under an
        earlier epoch, if an operator has set the read model back.

        Args:
            segment: the segment.
            epoch: under which it came there.
            position: up to which it is complete for all.
            held_back: the tenants that it holds back, as `HeldBack.text` gives them.
        """
        segments = self._segments.setdefault(segment[:2], {})
        same = [each for each in segments if each.overlaps(segment)]
        if any(segments[each].epoch > epoch for each in same):
            return
        is_set_back = any(segments[each].position > position for each in same)
        for each in same:
            del segments[each]
        segments[segment] = _Known(epoch, position, held_back)
        if sum(each.end - each.first for each in segments) == SLOTS:
            complete, watermark = min(each.position for each in segments.values()), self.watermark(*segment[:2])
            watermark.advance(complete)
            if is_set_back:
                watermark.set_back(complete)
            if held_back or segment[:2] in self._of_tenants:
                self._tell_tenants(segment[:2], is_set_back=is_set_back)

    def _tell_tenants(self, place: tuple[str, int], *, is_set_back: bool) -> None:
        """Tell the tasks that wait on behalf of a tenant how far a generation is complete for it."""
        own = self._of_tenants.setdefault(place, WeakValueDictionary())
        for tenant, watermark in list(own.items()):
            complete = self._complete(place, tenant)
            watermark.advance(complete)
            if is_set_back:
                watermark.set_back(complete)
        if not any(each.held_back for each in self._segments[place].values()):
            del self._of_tenants[place]

    def _complete(self, place: tuple[str, int], tenant: str) -> int:
        return min((each.reached(tenant) for each in self._segments.get(place, {}).values()), default=0)
