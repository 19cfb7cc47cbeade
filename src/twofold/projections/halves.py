"""Finding by halves which event of a batch fails, where the failure of all of them does not tell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from twofold.projections.keys.keyed_event import FailedEvent, start_of_event, without_blocked
from twofold.projections.runner import Projected, ProjectionBatch


async def by_halves(
    batch: ProjectionBatch,
    project: Callable[[ProjectionBatch], Awaitable[Projected]],
    step: Callable[[ProjectionBatch], Awaitable[None]],
) -> Sequence[FailedEvent]:
    """Project the first half of a batch, then what may follow of the other; return the failures of both.

    Each half takes a step of its own, and parks what fails. Events of the second half wait behind those of their rows
    that failed in the first.

    Args:
        batch: on its last try, with two events at least.
        project: projects a half; it may divide that again.
        step: takes the step of a batch that has no events left.
    """
    half = start_of_event(batch.events, len(batch.events) // 2)
    early = batch.first(half)
    middle = early.events[-1].recorded.position
    first = (await project(early)).failures
    rest, waiting = without_blocked(batch.events[half:], {each.keyed.text for each in first})
    parked = [*(each for each in batch.changes.parked if each.position > middle), *waiting]
    late = batch.step.following(early.step)
    left = batch._replace(events=rest, step=late, changes=batch.changes._replace(parked=parked))
    if not rest:
        await step(left)
        return first
    return [*first, *(await project(left)).failures]
