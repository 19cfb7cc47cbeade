"""What the runners of one database's segments need, in one place; workers and takeovers make their runners with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from twofold.log.event_store import EventStore
from twofold.log.shared_scans import SharedScans
from twofold.options import SynchronizerOptions
from twofold.ports.positions import Positions
from twofold.ports.read_database import ReadDatabase
from twofold.projections.runner import ProjectionRunner
from twofold.synchronizer.leases import Held
from twofold.synchronizer.segments.gathering import Gathering, Head
from twofold.synchronizer.segments.runner import SegmentRunner
from twofold.synchronizer.segments.target import SegmentTarget

Ceiling = Callable[[ProjectionRunner, int, float], Awaitable[int]]
"""Waits until a projection may go beyond a position, at most some seconds, and returns how far it may go."""


@dataclass(frozen=True, kw_only=True)
class RunnerFactory:
    """Makes the runners of segments of one database."""

    store: EventStore
    """Where the events are."""
    database: ReadDatabase
    """Where the read models are."""
    runners: Mapping[str, ProjectionRunner]
    """The code that this process has, by name."""
    positions: Positions
    """Told how far the segments have come."""
    ceiling: Ceiling
    scans: SharedScans
    """Reads the log for all segments of the process."""
    options: SynchronizerOptions

    def make(self, held: Held, owner: str) -> SegmentRunner:
        """Return what runs a segment under the name of the owner that holds it."""
        runner = self.runners[held.segment.projection]
        target = SegmentTarget(self.store, self.database, runner, held.suffix, held.segment, held.serves)
        head: Head = partial(self.ceiling, runner)
        if runner.has_read_model and not runner.drive.by_appends:
            reached = self.positions.watermark(held.segment.projection, held.segment.generation)
            head = Gathering(head, reached, self.options)
        return SegmentRunner(target, owner, self.options, self.positions.reached, head, self.scans)
