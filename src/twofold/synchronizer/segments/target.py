"""What a segment is worked on with: the log, the code, and the tables of one generation."""

from __future__ import annotations

from typing import Any, NamedTuple

from twofold.log.event_store import EventStore
from twofold.ports.read_database import ReadDatabase
from twofold.ports.segments import Segment
from twofold.projections.runner import ProjectionRunner


class SegmentTarget(NamedTuple):
    """A segment of one generation of a read model, and all that brings events into it."""

    store: EventStore
    """Where the events are."""
    database: ReadDatabase
    """Where the read model is."""
    runner: ProjectionRunner
    """The projection's code."""
    suffix: str
    """Of the names of the generation's tables."""
    segment: Segment
    serves: bool = False
    """Whether questions are answered from it."""

    @property
    def log_is_beside(self) -> bool:
        """Whether one transaction sees both the rows and the table of events."""
        log: Any = self.store.log
        return getattr(log, "has_event_table", False) and bool(log.is_with(self.database))
