"""Runs reactions: one event after the other, and the checkpoint follows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from twofold.errors import ProjectionFailedError, TimeLimitError
from twofold.messages.context import enter_event, leave_context
from twofold.messages.event import RecordedEvent
from twofold.ports.checkpoints import hold
from twofold.ports.read_database import IDLE, ReadDatabase, ReadTransaction, Style
from twofold.projections.failure import INFRASTRUCTURE
from twofold.projections.keys.keyed_event import FailedEvent, KeyedEvent, keyed_once
from twofold.projections.projection import check_projection_name
from twofold.projections.reaction import Reaction
from twofold.projections.runner import Drive, Projected, ProjectionBatch, Start, take_step
from twofold.projections.sql_projection import applied
from twofold.tasks import is_failure


class ReactionRunner:
    """Runs a `Reaction`, one event after the other; the checkpoint follows."""

    batch_size = 1
    max_wait: float | None = None
    start: Start = "now"
    has_read_model = False
    rows = None
    beside = None
    trouble = None

    def __init__(self, database: ReadDatabase, projection: Reaction, drive: Drive) -> None:
        check_projection_name(projection)
        self.drive = drive
        self.projection = projection
        self.name, self.version = projection.name, 1
        self.style: Style = "driver"
        self._database = database

    def fingerprint(self) -> Mapping[str, str]:
        """Return an empty one: nothing that was built depends on its code."""
        return {"row": ""}

    async def make(self, transaction: ReadTransaction, suffix: str) -> None:
        """Do nothing: a reaction has no tables."""

    async def check(self, transaction: ReadTransaction, suffix: str) -> None:
        """Do nothing: a reaction has no tables."""

    async def clear(self, transaction: ReadTransaction, suffix: str) -> None:
        """Do nothing: a reaction has no tables."""

    async def drop(self, transaction: ReadTransaction, suffix: str) -> None:
        """Do nothing: a reaction has no tables."""

    async def expose(self, transaction: ReadTransaction, suffix: str) -> None:
        """Do nothing: a reaction has no tables."""

    def keyed(self, events: Sequence[RecordedEvent[Any]]) -> list[KeyedEvent]:
        return keyed_once(self.projection, events)

    async def project(self, batch: ProjectionBatch) -> Projected:
        """Do what follows from each event, then take the step. What was done before a failure stays done."""
        failures: list[FailedEvent] = []
        for each in batch.events:
            if batch.step.lease:
                await hold(self._database, batch.step)  # or an event would come behind later ones of its key
            batch.moving(self.projection.time_limit.total_seconds())
            try:
                await self._react(each.recorded)
            except BaseException as error:
                if not is_failure(error) or isinstance(error, INFRASTRUCTURE):
                    raise
                if self.projection.is_outage(error):
                    raise ProjectionFailedError(self.name, each.recorded) from error
                failures.append(FailedEvent(each, error))
                if not batch.last_try:
                    return Projected(batch.step, failures)
        async with self._database.transaction(idle=batch.step.lease or IDLE) as transaction:
            await take_step(transaction, batch, failures)
        return Projected(batch.step, failures)

    async def _react(self, recorded: RecordedEvent[Any]) -> None:
        """Do what follows from an event, within the time limit.

        Raises:
            TimeLimitError: it took longer.
            Exception: whatever the reaction raises.
        """
        token = enter_event(recorded)
        try:
            await self._within_limit(applied(self.projection, recorded)(), f"event {recorded.position}")
        finally:
            leave_context(token)

    async def _within_limit(self, work: Awaitable[None], what: str) -> None:
        timeout = asyncio.timeout(self.projection.time_limit.total_seconds())
        try:
            async with timeout:
                await work
        except TimeoutError as error:
            if not timeout.expired():
                raise
            remedy = "raise `time_limit` of the reaction, or let it give up sooner"
            raise TimeLimitError(self.name, what, self.projection.time_limit.total_seconds(), remedy) from error
