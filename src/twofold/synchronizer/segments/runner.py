"""Runs one segment of one read model.

A runner, as long as its owner holds the segment's lease,

1. loads where the segment stands, what is parked of it and what was skipped, and folds the parked events that an
   operator has asked to be retried;
2. waits until the log has more, and saves now and then that it has passed events which the projection does not handle;
3. reads a batch, leaves out events of other segments, and parks the events whose rows have parked ones;
4. takes a step: brings the rest into the read model and moves the checkpoint, in one transaction. Events that fail are
   tried again, then parked, or the segment stops right before them, as the projection says;
5. goes on at 2. While a tenant is held back, 2 to 4 are for the others, and then for one batch of this tenant, in
   turns; see `fairness.py`. When the checkpoint was moved by another hand, it goes on at 1; what fails otherwise is
   stored with the checkpoint, for all to see, and after a pause it goes on at 1.

The worker renews the lease only if the work has moved: the runner says so whenever it gets anywhere, and says for how
long what it does next may take.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TypeVar

from twofold.errors import (
    CheckpointMovedError,
    HistoryChangedError,
    LeaseLostError,
    ProjectionFailedError,
    StorageError,
    StorageUnavailableError,
    TwofoldError,
)
from twofold.log.chunks import Batch, EventBatches, mark_at
from twofold.log.shared_scans import SharedScans
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import START, Mark
from twofold.options import SynchronizerOptions
from twofold.ports.checkpoints import SQL, Checkpoint
from twofold.ports.read_database import Changes
from twofold.ports.segments import Parked, Segment, Step
from twofold.ports.skips import Skips
from twofold.projections.failure import MAX_CAUSE, described, storable
from twofold.projections.keys.keyed_event import FailedEvent, KeyedEvent
from twofold.projections.runner import ProjectionBatch, decoder_for
from twofold.synchronizer.segments.fairness import Fairness, Standing, without_tenants
from twofold.synchronizer.segments.movement import Movement
from twofold.synchronizer.segments.retry_queue import RetryQueue
from twofold.synchronizer.segments.sorting import sort_events
from twofold.synchronizer.segments.target import SegmentTarget
from twofold.tasks import Supervisor, end, end_if_cancelled
from twofold.telemetry import count, trace_batch

log = logging.getLogger(__name__)
H = TypeVar("H")


class SegmentRunner:
    """Keeps one segment in step with the log, as long as it holds the lease.

    Args:
        target: what to run.
        owner: who holds the lease.
        options: of the synchronizer.
        reached: told of each position up to which the segment is complete, and of the tenants that it holds back.
        head: waits until there is more than up to a position, at most some seconds, and returns up to where.
        scans: reads the log for all segments of the process; by default this one reads for itself.
    """

    def __init__(
        self,
        target: SegmentTarget,
        owner: str,
        options: SynchronizerOptions,
        reached: Callable[[Segment, int, int, str], None],
        head: Callable[[int, float], Awaitable[int]],
        scans: SharedScans | None = None,
    ) -> None:
        store, runner = target.store, target.runner
        self._store, self._database, self._runner, self._suffix, self.segment, _ = target
        self._log_is_beside = target.log_is_beside
        self._owner = owner
        self._options = options
        self._lease = options.lease if owner else 0.0  # the rows of on-demand projections have one user, and no lease
        self._supervisor = Supervisor(f"projection {runner.name}", options.backoff, self._report)
        self._movement = Movement(runner.name, options.time_limit)
        at_once = min(options.retried_at_once, runner.batch_size)
        self._retry_queue = RetryQueue(target, self._movement, at_once)
        self._beside = Supervisor(f"the sweep of {runner.name}", options.backoff)
        self._tasks: list[asyncio.Task[None]] = []
        self._trying: BaseException | None = None
        self._reached = reached
        self._head = head
        query, decode = EventQuery.exactly(*runner.projection.handles()), decoder_for(runner, store.events)
        self._scans = scans or SharedScans(store.log, 0)
        reading = store.options
        if runner.max_wait is not None:
            reading = replace(reading, first_batch=max(reading.first_batch, runner.batch_size))
        scan = self._scans.reader(query).scan
        self._batches = EventBatches(store.log, decode, query, runner.batch_size, reading, scan)
        self._fairness = Fairness(target, options, decode)
        self._epoch = 0
        self._standing = Standing(START, None)
        self._tenant = ""
        """Whose events are handled at present, if any tenant is held back; empty: those of the others."""
        self._passed = START
        self._saved_at = 0.0
        self._blocked: set[str] = set()
        self._skips = Skips(runner.name)
        self._has_error = False
        self._loaded: tuple[object, ...] = ()
        """Where the checkpoint stood when it was loaded last."""
        self._moved_from: tuple[object, ...] = ()
        """Where it stood when it was said last that another hand has moved it."""
        self._in_vain = 0
        """How often in a row it still stood there."""

    def has_moved(self) -> bool:
        """Return whether the work went on since this was asked last, or does what it may still take time for."""
        return self._movement.has_moved()

    @property
    def fault(self) -> str:
        """Why it fails at present; empty if it does not."""
        error = self._supervisor.error or self._trying or self._beside.error
        return _text(error) if error else ""

    @property
    def epoch(self) -> int:
        """The epoch of the lease under which it works; 0 before it has begun."""
        return self._epoch

    @property
    def position(self) -> int:
        """Up to here the segment is complete, apart from what is missing of tenants that are held back."""
        return self._passed.position

    @property
    def _saved(self) -> Mark:
        """What is saved of those whose events are handled at present."""
        return self._standing.of(self._tenant)

    @property
    def mark(self) -> Mark:
        """What it has handled last."""
        return self._passed

    @property
    def has_parked(self) -> bool:
        """Whether any event of the segment is parked."""
        return bool(self._blocked)

    async def run(self) -> None:
        """Follow the log until the lease is lost; what fails is reported and tried again, for ever."""
        try:
            await self._supervisor.run(self._follow)
        finally:
            await end(*self._tasks)
            self._tasks.clear()

    def _begin_beside(self) -> None:
        """Begin what goes on beside the feed, once it is known that the segment is held."""
        if self._runner.beside is not None and not self._tasks:
            work = self._runner.beside(self.segment, self._suffix, lambda: self._epoch)
            running = self._beside.run(work)
            self._tasks.append(asyncio.create_task(running, name=f"twofold-sweep-{self.segment.projection}"))

    async def _follow(self) -> None:
        while True:
            try:
                await self._load()
                self._begin_beside()
                await self._retry_parked()
                while True:
                    if self._standing.held is None:
                        await self._go_on(await self._wait())
                    else:
                        await self._take_turns()
            except LeaseLostError:
                return
            except CheckpointMovedError as moved:
                await self._note_moved(moved)
            finally:
                await self._batches.forget()
                await self._fairness.forget()

    async def _note_moved(self, moved: CheckpointMovedError) -> None:
        """Go on at once; if it is said again and again that the checkpoint has moved, and it has not, pause longer."""
        log.info("%s; going on from where it stands now", moved.__cause__ or moved)
        self._in_vain = self._in_vain + 1 if self._loaded == self._moved_from else 0
        self._moved_from = self._loaded
        if self._in_vain:
            self._trying = moved.__cause__ or moved
            await self._movement.rest(self._options.backoff.pause(self._in_vain))

    async def catch_up(self, end: int) -> None:
        """Bring the segment to a position, exactly.

        Raises:
            LeaseLostError: the segment has another owner.
            Exception: any error that holds it up.
        """
        await self._load()
        await self._retry_parked()
        try:
            while self._standing.held is not None:
                await self._go_on_with_held_back()
            while (before := self.position) < end:
                await self._go_on(end)
                if self.position == before:
                    raise StorageError(
                        f"the log ends at {before}, before the position {end} to which it was to be read"
                    )
        finally:
            await self._batches.forget()
            await self._fairness.forget()
        if self._saved.position < end:
            await self._step((), self._passed)

    async def _load(self) -> None:
        """Find out where the segment stands, and what is parked of it."""
        await self._batches.forget()
        of = {"name": self.segment.projection, "generation": self.segment.generation}
        rows = [Checkpoint(*row) for row in await self._database.query(SQL["checkpoints_of"], **of)]
        row = next((each for each in rows if each.first == self.segment.first), None)
        if row is None or row.owner != self._owner or row.end != self.segment.end:
            raise LeaseLostError(self._runner.name)
        self._epoch, self._has_error, self._tenant = row.epoch, bool(row.error), ""
        self._loaded = row.epoch, row.mark, row.held_back
        self._standing, self._passed = Standing(row.mark, row.held, row.held_back), row.furthest
        self._blocked = await self._still_parked()
        skipped = await self._database.query(SQL["skipped"], name=self._runner.name, after=row.position)
        self._skips = Skips(self._runner.name, skipped)
        try:
            self._passed = await mark_at(self._store.log, row.furthest, row.furthest.position)
            if row.held is None:
                self._standing = Standing(self._passed, None)
        except HistoryChangedError as error:
            self._reached(self.segment, self._epoch, 0, "")  # what it was thought to have reached is not in this log
            raise error.of(self._runner.name) from None
        self._reached(self.segment, self._epoch, row.position, row.held_back)

    async def _compare(self) -> None:
        """Make sure that the log is the one that was read, and see whether there is more that no signal told of.

        Raises:
            CheckpointMovedError: it is not. Either the checkpoint has gone back with the log, or `_load` refuses it.
        """
        await self._in_this_history(self._scans.newest(self._passed))

    async def _in_this_history(self, reading: Awaitable[H]) -> H:
        try:
            return await reading
        except HistoryChangedError as error:
            raise CheckpointMovedError(self._runner.name) from error

    async def _wait(self) -> int:
        """Wait until there is more in the log, and return its head; save a checkpoint that has moved before that."""
        while True:
            end_if_cancelled()
            self._movement.note()
            unsaved = self.position > self._saved.position
            patience = self._saved_at + self._options.idle_save - time.monotonic() if unsaved else self._until_beat()
            head = await self._head(self.position, max(patience, 0))
            if head > self.position and not await self._is_done_by_appends(head):
                return await self._wait_for_more(head) if self._runner.max_wait else head
            await self._compare()
            if unsaved or self._has_error:  # what held it up is over
                await self._step((), self._passed)
            self._note_success()

    def _until_beat(self) -> float:
        """Return the seconds until all segments of this process that have nothing to do look at the log together."""
        pause = self._lease / 3
        return pause - time.monotonic() % pause

    async def _wait_for_more(self, head: int) -> int:
        """Wait until there may be enough for a full batch, or as long as a batch may wait; return the head then."""
        end = time.monotonic() + (self._runner.max_wait or 0.0)
        while head - self.position < self._runner.batch_size and (left := end - time.monotonic()) > 0:
            self._movement.note(left)
            head = max(head, await self._head(head, left))
        return head

    async def _is_done_by_appends(self, head: int) -> bool:
        """Return whether the appends brought an inline projection as far themselves, which they are left time for."""
        if not self._runner.drive.by_appends or head - self.position > self._options.near_head:
            return False
        await self._movement.rest(self._options.behind_appends)
        epoch = self._epoch
        await self._load()
        if self._epoch != epoch:  # something was changed: load it again
            raise CheckpointMovedError(self.segment.projection)
        return self.position >= head

    async def _take_turns(self) -> None:
        """Handle events of the others, as many as make a batch, then a batch of a tenant that is held back.

        What fails for the one does not hold up the other for longer than a pause.
        """
        end_if_cancelled()
        handled, head = 0, await self._head(self.position, 0)
        try:
            while handled < self._runner.batch_size and self.position < head:
                handled += await self._go_on(head)
        except Exception:
            await self._go_on_with_held_back()
            raise
        await self._go_on_with_held_back()

    async def _go_on_with_held_back(self) -> None:
        """Handle one batch of a tenant that is held back."""
        assert self._standing.held is not None  # noqa: S101
        ahead, self._tenant = self._standing.held.ahead, self._fairness.next(self._standing.held)
        try:
            batches = self._fairness.batches(self._tenant)
            reading = self._in_this_history(batches.read(self._saved, ahead.position, self._skips))
            batch = await self._movement.within_limit(reading, "reading a batch")
            with trace_batch(self._runner.name, batch.events, batch.position):
                await self._handle(batch)
            if batch.failure and self._saved.position >= batch.position:
                raise batch.failure
        finally:
            self._tenant = ""

    async def _go_on(self, end: int) -> int:
        """Handle one batch, of events up to a position; return how many events it had."""
        held = self._standing.held
        left_out = self._fairness.left_out(held, self._skips)
        reading = self._in_this_history(self._batches.read(self._passed, end, left_out))
        batch = await self._movement.within_limit(reading, "reading a batch")
        if flooding := self._fairness.flooding(held, batch, end, left_out.looked_at):
            log.info("%s holds back %s, whose events flood it", self._runner.name, ", ".join(flooding))
            self._standing = self._standing.hold(flooding, self._passed)
            batch = without_tenants(batch, flooding)
        is_due = self._standing.held is not None or time.monotonic() >= self._saved_at + self._options.idle_save
        if batch.events or batch.failure or is_due:
            with trace_batch(self._runner.name, batch.events, batch.position):
                await self._handle(batch)
        else:  # a crash only skips the same events again
            self._passed = batch.mark
            self._reached(self.segment, self._epoch, batch.position, "")
        if batch.failure and self.position >= batch.position:
            raise batch.failure
        return len(batch.events)

    async def _handle(self, batch: Batch) -> None:
        found = await sort_events(self._runner, self.segment, self._blocked, self._skips, batch.events)
        mark, failure = batch.mark, found.failure
        if failure is not None:
            mark = await self._mark_at(failure.position - 1)
            found = found.up_to(mark.position)
        if mark.position > self._saved.position:  # else a step would only make it look as if nothing held it up
            await self._step(found.own, mark, found.waiting)
        if failure is not None and self._saved.position >= mark.position:
            raise failure

    async def _step(self, events: Sequence[KeyedEvent], mark: Mark, parked: Sequence[Parked] = ()) -> None:
        """Bring events into the read model and the checkpoint to a mark; try again what fails, then park it."""
        changes = Changes(parked=parked)
        failures: Sequence[FailedEvent] = ()
        retries = self._options.retries if self._runner.drive.tries_again else 0
        for attempt in range(retries + 1):
            last_try = attempt == retries and self._runner.projection.on_failure == "park"
            failures = await self._project(events, mark, changes, last_try=last_try)
            if not failures or last_try:
                break
            self._trying = failures[0].error
            await self._movement.rest(self._options.backoff.pause(attempt + 1))
        else:
            await self._stop_right_before(events, mark, changes, failures)
            return  # none failed this time
        self._blocked.update(each.keyed.text for each in failures)
        for each in failures:
            if each.error:
                count("errors")
                cause, _ = described(each.error)
                log.warning("%s parked event %d: %s", self._runner.name, each.keyed.recorded.position, cause)

    async def _project(
        self, events: Sequence[KeyedEvent], mark: Mark, changes: Changes, *, last_try: bool
    ) -> Sequence[FailedEvent]:
        step = self._step_to(mark)
        batch = ProjectionBatch(
            self._suffix,
            events,
            step,
            changes,
            last_try=last_try,
            moving=self._movement.note_within_limit,
            is_divisible=True,
        )
        taken, failures = await self._movement.within_limit(
            self._runner.project(batch), f"a step of {len(events)} events"
        )
        if last_try or not failures:
            self._standing, self._saved_at, self._has_error = Standing.behind(taken), time.monotonic(), False
            if not self._tenant:
                self._passed = self._saved
            self._reached(self.segment, self._epoch, taken.after, taken.held_after)
            self._note_success()
        return failures

    def _note_success(self) -> None:
        """Forget what failed: a step succeeded, or another try has found all done, up to the head of the log."""
        self._trying = None
        self._supervisor.went_well()

    async def _stop_right_before(
        self, events: Sequence[KeyedEvent], mark: Mark, changes: Changes, failures: Sequence[FailedEvent]
    ) -> None:
        """Go on event by event, up to the one that fails; it may not be known which of the batch that is.

        Raises:
            ProjectionFailedError: there.
        """
        one_by_one = [list(group) for _, group in groupby(events, lambda each: each.recorded.position)]
        if len(one_by_one) == 1:
            raise ProjectionFailedError(self._runner.name, events[0].recorded) from failures[0].error

        def waiting(end: int) -> Changes:
            return Changes(parked=[each for each in changes.parked if self._saved.position < each.position <= end])

        for place, each in enumerate(one_by_one):
            last, before = place == len(one_by_one) - 1, each[0].recorded.position - 1
            end = mark if last else await self._mark_at(one_by_one[place + 1][0].recorded.position - 1)
            if failed := await self._project(each, end, waiting(end.position), last_try=False):
                if before > self._saved.position:
                    mark_before = await self._mark_at(before)
                    await self._project((), mark_before, waiting(before), last_try=False)
                raise ProjectionFailedError(self._runner.name, each[0].recorded) from failed[0].error

    async def _retry_parked(self) -> None:
        """Fold the parked events that an operator wants to be retried."""
        while await self._retry_queue.fold_next(self._step_to(self._saved)):
            self._blocked = await self._still_parked()

    def _step_to(self, mark: Mark) -> Step:
        here, held, stored = self._standing
        step = Step(
            self.segment, self._epoch, here.position, here.position, self._lease, here.text, here.text,
            self._log_is_beside, stored, held.text if held else "", self._tenant,
        )  # fmt: skip
        return step.ending_at(mark)

    async def _mark_at(self, position: int) -> Mark:
        """Return the mark of a position behind the checkpoint, in the history that was read up to there.

        Raises:
            CheckpointMovedError: the log has another one.
        """
        return await self._in_this_history(mark_at(self._store.log, self._saved, position))

    async def _still_parked(self) -> set[str]:
        of = {"name": self.segment.projection, "generation": self.segment.generation}
        slots = {"first": self.segment.first, "end": self.segment.end}
        return {key for key, _ in await self._database.query(SQL["parked_keys"], **of, **slots)}

    async def _report(self, error: BaseException, pause: float) -> None:
        """Store what holds the segment up, where every process can see it."""
        count("errors")
        self._movement.note(pause + self._lease / 3)  # the lease is kept
        if not isinstance(error, StorageUnavailableError):
            details = error if self._supervisor.is_news else None  # one traceback for each cause
            log.error("projection %s stands still, next try in %.1f s", self._runner.name, pause, exc_info=details)
        async with self._database.transaction() as transaction:
            await transaction.run(
                SQL["set_error"], name=self.segment.projection, generation=self.segment.generation,
                first=self.segment.first, epoch=self._epoch, error=_text(error),
            )  # fmt: skip


def _text(error: BaseException) -> str:
    """Return what is said of an error where read models are looked after."""
    text = str(error) if isinstance(error, TwofoldError) else described(error)[0]
    if isinstance(error, ProjectionFailedError):
        text += f": {described(error.__cause__)[0]}"
    return storable(text, MAX_CAUSE)
