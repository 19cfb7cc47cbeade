"""Runs reactions that take several events at once: one call for a batch, then the checkpoint follows.

1. Make sure that the segment is held long enough.
2. Call `apply` with all events of the batch. If that succeeds, take the step.
3. If it fails, the segment's runner tries the batch again. On its last try, the batch is divided into halves, and each
   goes on at 1 by itself, down to the event that fails, which is parked.
"""

from __future__ import annotations

from collections.abc import Sequence

from twofold.errors import ProjectionFailedError
from twofold.ports.checkpoints import hold
from twofold.ports.read_database import IDLE, ReadDatabase
from twofold.projections.batch_reaction import BatchReaction
from twofold.projections.failure import INFRASTRUCTURE
from twofold.projections.halves import by_halves
from twofold.projections.keys.keyed_event import FailedEvent, start_of_event
from twofold.projections.reaction_runner import ReactionRunner
from twofold.projections.runner import Drive, Projected, ProjectionBatch, take_step
from twofold.tasks import is_failure


class BatchReactionRunner(ReactionRunner):
    """Runs a `BatchReaction`: one call for a batch of events; the checkpoint follows."""

    projection: BatchReaction

    def __init__(self, database: ReadDatabase, projection: BatchReaction, drive: Drive) -> None:
        super().__init__(database, projection, drive)
        self.batch_size = projection.batch_size
        self.max_wait = projection.max_wait.total_seconds()

    async def project(self, batch: ProjectionBatch) -> Projected:
        """Do what follows from a batch, then take the step. What was done before a failure stays done."""
        error = await self._apply(batch) if batch.events else None
        if error is None:
            await self._step(batch)
            return Projected(batch.step)
        failures: Sequence[FailedEvent] = [FailedEvent(batch.events[0], error)]
        if batch.last_try and start_of_event(batch.events, len(batch.events) // 2):
            failures = await by_halves(batch, self.project, self._step)
        elif batch.last_try:  # what stands at one position is parked whole
            failures = [*failures, *map(FailedEvent, batch.events[1:])]
            await self._step(batch, failures)
        return Projected(batch.step, failures)

    async def _apply(self, batch: ProjectionBatch) -> BaseException | None:
        """Call `apply` with all events of a batch; return why it failed.

        Raises:
            ProjectionFailedError: what it talks to is away.
            CheckpointMovedError: the segment is not held any more.
        """
        if batch.step.lease:
            await hold(self._database, batch.step)  # or events would come behind later ones of their keys
        batch.moving(self.projection.time_limit.total_seconds())
        events = [each.recorded for each in batch.events]
        try:
            await self._within_limit(self.projection.apply(events), f"a batch of {len(events)} events")
        except BaseException as error:
            if not is_failure(error) or isinstance(error, INFRASTRUCTURE):
                raise
            if self.projection.is_outage(error):
                raise ProjectionFailedError(self.name, events[0]) from error
            return error
        return None

    async def _step(self, batch: ProjectionBatch, failures: Sequence[FailedEvent] = ()) -> None:
        async with self._database.transaction(idle=batch.step.lease or IDLE) as transaction:
            await take_step(transaction, batch, failures)
