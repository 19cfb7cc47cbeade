"""Fairness between tenants: a segment that is far behind goes on without those whose events flood it, and beside them.

1. Where a segment is far behind and many events of a batch are one tenant's, this tenant is held back: the step takes
   the events of the others, and says with the checkpoint from where on this tenant's are missing; see `HeldBack`.
2. From then on, the segment takes turns: events of the others, as many as make a batch, then a batch of one tenant that
   is held back, which is read by the tenant's tag.
3. The step that brings a tenant to where the others are holds it back no more.

Only generations that serve begin to hold tenants back; whatever holds any back can go on, or catch up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from twofold.log.chunks import Batch, EventBatches, Rows
from twofold.log.codec.unknown import RowDecoder
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import Mark
from twofold.messages.tenant_names import tenant_of
from twofold.options import SynchronizerOptions
from twofold.ports.held_back import HeldBack
from twofold.ports.segments import Step
from twofold.ports.skips import Skips
from twofold.synchronizer.segments.target import SegmentTarget
from twofold.tenants import own_query


class Standing(NamedTuple):
    """Where a segment stands."""

    mark: Mark
    """Its checkpoint: up to here it is complete for all."""
    held: HeldBack | None
    """The tenants that it holds back, also from the next step on."""
    stored: str = ""
    """Those that its checkpoint holds back, as `HeldBack.text`."""

    @classmethod
    def behind(cls, step: Step) -> Standing:
        """Return where a step has led to."""
        return cls(Mark.stored(step.after, step.event_id), HeldBack.stored(step.held_after), step.held_after)

    def of(self, tenant: str) -> Mark:
        """Return up to where it is complete for a tenant; without a name, for all that are not held back."""
        return self.held.of(tenant) if self.held else self.mark

    def hold(self, tenants: Collection[str], passed: Mark) -> Standing:
        """Return it with some more tenants held back, from where it has passed all others."""
        held = self.held or HeldBack(passed, {})
        return self._replace(held=held.hold(tenants))


class LeftOut:
    """Leaves out events before they are decoded: those that are skipped, and those of tenants that are held back."""

    def __init__(self, skips: Skips, tenants: Collection[str]) -> None:
        self._skips = skips
        self._tenants = tenants
        self.looked_at = 0
        """How many events there were in the last batch, with those that were left out."""

    def without(self, events: Rows) -> Rows:
        """Return the events that are left."""
        self.looked_at = len(events)
        if self._tenants:
            events = [each for each in events if tenant_of(each) not in self._tenants]
        return self._skips.without(events)


class Fairness:
    """Tells which tenants flood a segment, whose turn it is, and reads the events of those that are held back.

    Args:
        target: the segment, and what runs it.
        options: from when on a tenant is held back.
        decode: makes events of rows.
    """

    def __init__(self, target: SegmentTarget, options: SynchronizerOptions, decode: RowDecoder) -> None:
        self._store, self._runner = target.store, target.runner
        runner = target.runner
        reads_others = runner.rows is not None and runner.rows.reads_others  # its events depend on each other
        by_workers = runner.drive.is_stored and not runner.drive.by_appends
        self._may_begin = target.serves and runner.projection._of_tenants and by_workers and not reads_others
        self._options = options
        self._decode = decode
        self._query = EventQuery.exactly(*runner.projection.handles())
        self._batches: dict[str, EventBatches] = {}
        self._last = ""

    def left_out(self, held: HeldBack | None, skips: Skips) -> LeftOut:
        """Return what leaves out the events that are not to be handled now."""
        return LeftOut(skips, held.tenants if held else ())

    def flooding(self, held: HeldBack | None, batch: Batch, end: int, looked_at: int) -> Sequence[str]:
        """Return the tenants that are to be held back from the beginning of a batch on.

        Args:
            held: those that are held back already.
            batch: the events of the others.
            end: up to where the log is known to reach.
            looked_at: how many events there were, with those of tenants that are held back.
        """
        if not self._may_begin or end - batch.position < self._options.far_behind:
            return ()
        room = self._options.most_held_back - (len(held.tenants) if held else 0)
        counts = Counter([each.tenant for each in batch.events]).most_common(max(room, 0))
        return [tenant for tenant, count in counts if tenant and count > looked_at * self._options.flood_share]

    def next(self, held: HeldBack) -> str:
        """Return the tenant that has the next turn of those that are held back."""
        tenants = sorted(held.tenants)
        self._last = next((each for each in tenants if each > self._last), tenants[0])
        return self._last

    def batches(self, tenant: str) -> EventBatches:
        """Return what reads the events of a tenant, batch after batch."""
        if tenant not in self._batches:
            query, options = own_query(tenant, self._query), self._store.options
            self._batches[tenant] = EventBatches(self._store.log, self._decode, query, self._runner.batch_size, options)
        return self._batches[tenant]

    async def forget(self) -> None:
        """Drop what was read ahead."""
        for each in self._batches.values():
            await each.forget()
        self._batches.clear()


def without_tenants(batch: Batch, tenants: Collection[str]) -> Batch:
    """Return a batch without the events of some tenants."""
    return batch._replace(events=[each for each in batch.events if each.tenant not in tenants])
