"""Sorting events into the rows of a segment: which are its own, which wait behind parked ones, which have no key."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from twofold.errors import ProjectionFailedError
from twofold.messages.event import RecordedEvent
from twofold.ports.segments import Parked, Segment
from twofold.ports.skips import Skips
from twofold.projections.keys.keyed_event import KeyedEvent, LookupEvent, without_blocked, without_skipped
from twofold.projections.runner import ProjectionRunner
from twofold.slices import Slices
from twofold.tasks import PROCESS_EXITS


class SortedEvents(NamedTuple):
    """The events of a batch that concern a segment, up to the first that has no key."""

    own: Sequence[KeyedEvent]
    """What can be folded."""
    waiting: Sequence[Parked]
    """What waits behind parked events of the same rows, ready to be parked."""
    failure: ProjectionFailedError | None
    """Why an event has no key; None if all have one."""

    def up_to(self, position: int) -> SortedEvents:
        """Return those up to a position."""
        own = [each for each in self.own if each.recorded.position <= position]
        waiting = [each for each in self.waiting if each.position <= position]
        return SortedEvents(own, waiting, self.failure)


async def sort_events(
    runner: ProjectionRunner,
    segment: Segment,
    blocked: Collection[str],
    skips: Skips,
    events: Sequence[RecordedEvent[Any]],
) -> SortedEvents:
    """Return the events that concern a segment, and let other tasks run while slow code finds their keys.

    Args:
        runner: the projection's code, which knows the keys.
        segment: whose events are wanted.
        blocked: the keys of rows that have parked events.
        skips: the events that rows leave out.
        events: of all segments.
    """
    found, failure = await _keyed(runner, events)
    kept = without_skipped(found, skips)
    if not segment.is_whole:
        kept = [each for each in kept if isinstance(each, LookupEvent) or segment.has(each.text)]
    own, waiting = without_blocked(kept, blocked) if blocked else (kept, ())
    return SortedEvents(own, waiting, failure)


async def _keyed(
    runner: ProjectionRunner, events: Sequence[RecordedEvent[Any]]
) -> tuple[list[KeyedEvent], ProjectionFailedError | None]:
    """Return the events up to the first that has no key, and why it has none."""
    found: list[KeyedEvent] = []

    def add_keys(part: Sequence[RecordedEvent[Any]]) -> tuple[()]:
        try:
            found.extend(runner.keyed(part))
        except PROCESS_EXITS:
            raise
        except BaseException as error:
            if len(part) == 1:
                failure = ProjectionFailedError(runner.name, part[0])
                failure.__cause__ = error
                raise failure from error
            for each in part:  # which one it is, is found out one by one
                add_keys([each])
        return ()

    try:
        await Slices(add_keys).of(events)
    except ProjectionFailedError as failure:
        return found, failure
    return found, None
