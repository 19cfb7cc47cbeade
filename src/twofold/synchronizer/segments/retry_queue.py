"""The parked events of a segment that an operator wants to be retried.

1. The first of them are read, in order, and folded in one transaction that takes them out of what is parked.
2. If that fails, the events of each row are folded by themselves, one after the other.
3. Where one fails again, it and the later ones of its row stay parked, with why it fails now.
"""

from __future__ import annotations

from collections.abc import Sequence

from twofold.errors import CheckpointMovedError, HistoryChangedError
from twofold.log.chunks import event_at
from twofold.messages.mark import Mark
from twofold.ports.checkpoints import SQL, advance
from twofold.ports.read_database import Changes
from twofold.ports.segments import Parked, Step
from twofold.projections.failure import INFRASTRUCTURE, described
from twofold.projections.keys.keyed_event import KeyedEvent, LookupEvent
from twofold.projections.runner import ProjectionBatch, decoder_for
from twofold.synchronizer.segments.movement import Movement
from twofold.synchronizer.segments.target import SegmentTarget
from twofold.tasks import PROCESS_EXITS, is_failure
from twofold.telemetry import trace_batch


class RetryQueue:
    """Folds the parked events of a segment that an operator wants to be retried.

    Args:
        target: whose events they are.
        movement: told that the work goes on.
        at_once: events that are folded in one transaction, at most.
    """

    def __init__(self, target: SegmentTarget, movement: Movement, at_once: int) -> None:
        self._store, self._database, self._runner, self._suffix, self._segment, _ = target
        self._movement = movement
        self._at_once = at_once
        self._place = {"name": target.segment.projection, "generation": target.segment.generation}

    async def fold_next(self, step: Step) -> bool:
        """Fold the next ones: all at once, or else row by row; return whether there were any.

        Args:
            step: a step on the spot, which makes sure that the segment is still held and stands where it stood.

        Raises:
            CheckpointMovedError: it is not, or does not; nothing more was folded.
            Exception: whatever holds the segment up, apart from events that fail.
        """
        of = {**self._place, "first": self._segment.first, "end": self._segment.end}
        waiting = [
            Parked(*row) for row in await self._database.query(SQL["parked_to_retry"], **of, limit=self._at_once)
        ]
        if len(waiting) > 1:  # some may be left for the next turn, which must not depend on those that are gone by then
            async with self._database.transaction() as transaction:
                await transaction.run(SQL["ask_retry_of_rows"], **of)
        if waiting and await self._fold(waiting, step) is not None:
            for key in dict.fromkeys(each.key for each in waiting):
                await self._fold_row([each for each in waiting if each.key == key], step)
        return bool(waiting)

    async def _fold_row(self, waiting: Sequence[Parked], step: Step) -> None:
        """Fold events of one row, one after the other; where one fails again, it and the later ones wait on."""
        for place, each in enumerate(waiting):
            error = await self._fold([each], step)
            if error is not None:
                cause, trace = described(error)
                later = [later._replace(cause="", traceback="") for later in waiting[place + 1 :]]
                await self._leave_parked([each._replace(cause=cause, traceback=trace), *later], step)
                return

    async def _leave_parked(self, waiting: Sequence[Parked], step: Step) -> None:
        """Store why the first of them still fails, and that the retry of their row is over."""
        async with self._database.transaction() as transaction:
            if not await advance(transaction, Changes(parked=waiting), step):
                raise CheckpointMovedError(self._runner.name)
            await transaction.run(SQL["retried"], **self._place, key=waiting[0].key)

    async def _fold(self, waiting: Sequence[Parked], step: Step) -> BaseException | None:
        """Bring parked events in, or as many as are done in about a second; return why that fails, None if it does not.

        None is in if it fails. Those that were left for want of time are still to be retried.
        """
        try:
            found = [await self._event(each) for each in waiting]
        except (*INFRASTRUCTURE, *PROCESS_EXITS):
            raise
        except BaseException as error:  # it cannot be read any more
            if not is_failure(error):
                raise
            return error
        events = [each for its in found for each in its]
        released = Changes(released=[(each.position, each.key) for each in waiting])
        moving = self._movement.note_within_limit
        batch = ProjectionBatch(self._suffix, events, step, released, moving=moving, is_divisible=True)
        work = self._runner.project(batch)
        with trace_batch(self._runner.name, [each.recorded for each in events], waiting[-1].position):
            _, failures = await self._movement.within_limit(work, f"a retry of {len(events)} events")
        return failures[0].error if failures else None

    async def _event(self, parked: Parked) -> Sequence[KeyedEvent]:
        """Return a parked event with the key of its row, or those of its parts that are about that row."""
        self._movement.note()
        row = await event_at(self._store.log, parked.position)
        if row is None or row.event_id.hex() != parked.event_id:
            there = None if row is None else Mark(row.position, row.event_id)
            was, head = Mark.stored(parked.position, parked.event_id), await self._store.head()
            raise HistoryChangedError(was, there, head, self._runner.name)
        found = self._runner.keyed(await decoder_for(self._runner, self._store.events).events_of([row]))
        if len(found) == 1 and not isinstance(found[0], LookupEvent):
            return found  # also where other code gives it another key than it had
        return [each for each in (self._of_row(each, parked.key) for each in found) if each is not None]

    def _of_row(self, event: KeyedEvent, key: str) -> KeyedEvent | None:
        """Return an event as one of the row for which it was parked; None if it is about others only."""
        if isinstance(event, LookupEvent) and self._runner.rows is not None:
            stored_rows = self._runner.rows.projection.stored_rows()
            return KeyedEvent(event.recorded, stored_rows.key_from_text(key))
        return event if event.text == key else None
