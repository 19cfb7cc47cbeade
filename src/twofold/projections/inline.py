"""Inline projections: keyed ones whose rows are written in the transaction that appends the events."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from twofold.errors import InvalidProjectionError, ProjectionFailedError
from twofold.log.codec.event_types import EventTypes
from twofold.messages.event import RecordedEvent
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import StoredEvent
from twofold.ports.checkpoints import SQL
from twofold.ports.event_log import EventLog, JoinableLog
from twofold.ports.inline import (
    Ask,
    FindRows,
    GiveWay,
    LoadRows,
    LockLog,
    LockSegments,
    ReadEvents,
    RunBlocking,
    Steps,
    WriteStep,
)
from twofold.ports.read_database import Changes, ReadDatabase, Values
from twofold.ports.segments import SLOTS, Parked, Segment, Step, slot_of
from twofold.ports.skips import Skips
from twofold.ports.table import Table
from twofold.projections.folding import Folded, Folding
from twofold.projections.keys.keyed_event import KeyedEvent, LookupEvent, key_text, without_blocked, without_skipped
from twofold.projections.keys.lookups import MOST_ROWS, selections
from twofold.projections.projection import KeyValues
from twofold.projections.runner import RowRunner

log = logging.getLogger(__name__)


class _SegmentToWrite(NamedTuple):
    """A segment as an append finds it. The order of the fields is that of `segments_to_write` in `checkpoints.sql`."""

    generation: int
    suffix: str
    version: int
    paused: int
    first: int
    end: int
    epoch: int
    position: int
    error: str
    held_back: str


class _Progress(NamedTuple):
    """Where the read model stands, and what must not be folded into it."""

    segments: Sequence[_SegmentToWrite]
    parked: frozenset[str]
    """Keys that have parked events."""
    skips: Skips

    @property
    def position(self) -> int:
        """Up to here all segments are complete."""
        return min(each.position for each in self.segments)

    def segment_of(self, text: str) -> _SegmentToWrite:
        """Return the segment that a key belongs to."""
        slot = slot_of(text) if len(self.segments) > 1 else 0
        return next(each for each in self.segments if slot < each.end)

    def lacks(self, text: str, position: int) -> bool:
        """Return whether the row with a key still lacks what an event does to it."""
        return position > self.segment_of(text).position

    def at(self, position: int) -> _Progress:
        """Return it with all segments complete up to a position."""
        return self._replace(segments=[each._replace(position=max(position, each.position)) for each in self.segments])


class InlineProjection:
    """Folds what an append stores into the read model that serves, in the same transaction.

    An append is rejected for what its own events do to the read model, and for nothing else. It brings in what else is
    missing, as processes appended it that do not know the projection as an inline one. It leaves that to the
    synchronizer, which brings the read model up as it does for asynchronous ones, where the read model is paused or
    was built by another version of the code, an earlier event holds it up, a tenant is held back, parked events are
    being retried, or the missing events are more than `FoldOptions.missing` or would take longer than `missing_time`.

    Args:
        runner: the projection's code.
        events: the types of events.
    """

    def __init__(self, runner: RowRunner, events: EventTypes) -> None:
        self.name = runner.name
        self._runner = runner
        self._options = runner.folding
        self._events = events
        self._query = EventQuery.exactly(*runner.projection.handles())
        self._types = frozenset(name for item in self._query.items for name in item.types)
        self._rows = runner.projection.stored_rows()
        self._cost = 0.0
        """Seconds that it took for an event, most recently."""

    def fold(self, after: int, head: int) -> Steps[None]:
        """See `Inline.fold`."""
        progress = yield from self._find_progress()
        if progress is None:
            return
        if progress.position < after:
            progress = yield from self._make_up(
                progress, after, self._at_most(self._options.missing), self._options.missing_time
            )
        if progress is not None:
            yield from self._bring(progress, head, head - progress.position)

    def catch_up(self, generation: int = 0) -> Steps[bool]:
        """Bring a generation, by default the one that serves, nearer to the head of the log, which is locked.

        Returns whether it is there, or has to be left to the synchronizer.
        """
        head = yield LockLog()
        progress = yield from self._find_progress(generation)
        if progress is None or progress.position >= head:
            return True
        at_most = max(self._at_most(self._options.first_missing), 1)
        rows = yield ReadEvents(self._query, progress.position, head + 1, at_most)
        end = rows[-1].position if len(rows) == at_most else head
        progress = yield from self._make_up(progress, end, at_most)
        return progress is None or end == head

    def complete(self, generation: int) -> Steps[None]:
        """Bring a generation that is about to serve to the head of the log, which stays where it is until then.

        Raises:
            ProjectionFailedError: an event cannot be folded.
        """
        head = yield LockLog()
        progress = yield from self._find_progress(generation)
        if progress is not None:
            yield from self._bring(progress, head, head - progress.position)

    def _find_progress(self, generation: int = 0) -> Steps[_Progress | None]:
        """Find out where to write; None if that is not to be done by an append now."""
        name = self.name
        # it may be flipped or divided while we wait for the lock: then some are not seen
        for _ in range(self._options.segment_looks):
            segments = [_SegmentToWrite(*row) for row in (yield LockSegments(name, generation))]
            if sum(each.end - each.first for each in segments) == SLOTS:
                break
        else:
            return None
        first = segments[0]
        if first.paused or first.version != self._runner.version:
            return None
        if any(each.error or each.held_back for each in segments):
            return None
        after = min(each.position for each in segments)
        kept_out = yield Ask(SQL["parked_and_skipped"], {"name": name, "generation": first.generation, "after": after})
        if any(retry for *_, retry in kept_out):
            return None
        skips = Skips(name, (row[:3] for row in kept_out if row[0]))
        return _Progress(segments, frozenset(key for position, _, key, _ in kept_out if not position), skips)

    def _at_most(self, unknown: int) -> int:
        """Return how many events of others an append may bring in, in the time that it may spend on them."""
        return min(self._options.missing, int(self._options.missing_time / self._cost)) if self._cost else unknown

    def _make_up(
        self, progress: _Progress, end: int, at_most: int, seconds: float = math.inf
    ) -> Steps[_Progress | None]:
        """Bring in what others appended; if that fails, no append is to blame: leave all to the synchronizer."""
        yield Ask("SAVEPOINT twofold_inline")
        try:
            progress = yield from self._bring(progress, end, at_most, seconds)
        except Exception as error:  # the user's code; the synchronizer comes upon it, too, and reports it
            log.info("%s is left to the synchronizer for now: %r", self.name, error)
            yield Ask("ROLLBACK TO SAVEPOINT twofold_inline")
            return None
        yield Ask("RELEASE SAVEPOINT twofold_inline")
        return progress

    def _bring(self, progress: _Progress, end: int, at_most: int, seconds: float = math.inf) -> Steps[_Progress]:
        """Fold what stands in the log between the segments and a position.

        Raises:
            ProjectionFailedError: an event cannot be folded.
            _TooManyError: there are more events than allowed.
        """
        rows, last_id = yield from self._read(progress.position, end, at_most)
        if fetch_payloads := self._events._missing_payloads(rows):
            rows = yield RunBlocking(fetch_payloads)
        if fetch_keys := self._events._missing_keys(rows):
            yield RunBlocking(fetch_keys)
        events = self._keyed(progress, rows)
        last = events[-1].recorded if events else None
        events, waiting = without_blocked(events, progress.parked)
        parked = [each for each in waiting if progress.lacks(each.key, each.position)]
        changed = yield from self._fold(events, progress, seconds)
        table = self._runner.table(progress.segments[0].suffix)
        for segment in progress.segments:
            if segment.position < end:
                try:
                    changes = self._changes(progress, segment, changed, parked)
                    yield WriteStep(table, changes, self._step(segment, end, last_id))
                except Exception as error:  # a row that cannot be stored
                    if last is None:
                        raise
                    raise self._failed(last, error) from error
        return progress.at(end)

    def _read(self, after: int, end: int, at_most: int) -> Steps[tuple[Sequence[StoredEvent], str]]:
        """Return the events of the projection's types, and the id of the last event of any type.

        All are read where they lie close together.
        """
        if end - after <= at_most:
            rows = yield ReadEvents(EventQuery.all(), after, end + 1, end - after)
            return [row for row in rows if row.type in self._types], rows[-1].event_id.hex() if rows else ""
        [last] = yield ReadEvents(EventQuery.all(), end - 1, end + 1, 1)
        rows = yield ReadEvents(self._query, after, end + 1, at_most + 1)
        if len(rows) > at_most:
            raise _TooManyError(f"more than {at_most} events are missing")
        return rows, last.event_id.hex()

    def _fold(
        self, events: Sequence[KeyedEvent], progress: _Progress, seconds: float
    ) -> Steps[Mapping[KeyValues, tuple[str, Any]]]:
        """Return the text of the key, and the values of the row, for each row that changes."""
        if not events:
            return {}
        rows = self._rows
        last = {each.key: each.recorded for each in events}
        try:
            before = yield from self._load(self._runner.table(progress.segments[0].suffix), events)
        except Exception as error:  # a key that no table can hold
            raise self._failed(events[-1].recorded, error) from error
        folded = yield from self._fold_in_slices(
            Folding(self._runner.projection, before, progress.lacks), events, seconds
        )
        for failure in folded.failures:
            if failure.error is not None:
                raise self._failed(failure.keyed.recorded, failure.error) from failure.error
        changed: dict[KeyValues, tuple[str, Any]] = {}
        for key, row in folded.rows.items():
            try:
                changed[key] = key_text(key), None if row is None else rows.dump(row)
            except Exception as error:
                raise self._failed(last.get(key, events[-1].recorded), error) from error
        return changed

    def _load(self, table: Table, events: Sequence[KeyedEvent]) -> Steps[dict[KeyValues, Any]]:
        """Return the rows that events are about, by key."""
        found: list[Values] = []
        if lookups := [each for each in events if isinstance(each, LookupEvent)]:
            for selection in selections(self._rows, lookups, MOST_ROWS):
                found += yield FindRows(table, selection)
        if keys := {self._rows.dump_key(each.key) for each in events if each.key}:
            found += yield LoadRows(table, keys)
        return {self._rows.key_of(row): row for row in map(self._rows.load, found)}

    def _fold_in_slices(self, folding: Folding, events: Sequence[KeyedEvent], seconds: float) -> Steps[Folded]:
        """Fold events, and note how long one takes.

        Raises:
            _TooManyError: that has taken longer than it may.
        """
        began, count = time.perf_counter(), 0
        while count < len(events):
            if time.perf_counter() - began > self._options.slice:
                yield GiveWay()
            count = folding.take(events, count, min(self._options.slice, seconds))
            taken = time.perf_counter() - began
            self._cost = taken / max(count, 1)
            if taken > seconds and count < len(events):
                raise _TooManyError(f"{len(events)} events take longer than {seconds} s")
        return folding.folded

    def _keyed(self, progress: _Progress, rows: Sequence[StoredEvent]) -> list[KeyedEvent]:
        """Return the events that the segments lack, each with its key."""
        events: list[KeyedEvent] = []
        for recorded in self._events.decode(progress.skips.without(rows), self._query):
            try:
                found = self._runner.keyed([recorded])
            except Exception as error:
                raise self._failed(recorded, error) from error
            kept = without_skipped(found, progress.skips)
            events += [each for each in kept if not each.key or progress.lacks(each.text, recorded.position)]
        return events

    def _changes(
        self,
        progress: _Progress,
        segment: _SegmentToWrite,
        changed: Mapping[KeyValues, tuple[str, Any]],
        parked: Sequence[Parked],
    ) -> Changes:
        """Return what a step makes of one segment."""
        mine = {key: row for key, (text, row) in changed.items() if progress.segment_of(text) is segment}
        upserts = [row for row in mine.values() if row is not None]
        deletes = [self._rows.dump_key(key) for key, row in mine.items() if row is None]
        waiting = [each for each in parked if progress.segment_of(each.key) is segment]
        return Changes(upserts, deletes, waiting)

    def _step(self, segment: _SegmentToWrite, end: int, event_id: str) -> Step:
        part = Segment(self.name, segment.generation, segment.first, segment.end)
        return Step(part, segment.epoch, segment.position, end, event_id=event_id)

    def _failed(self, recorded: RecordedEvent[Any], error: BaseException) -> ProjectionFailedError:
        return ProjectionFailedError(self.name, recorded, repr(error))


def attach(log: EventLog, inline: InlineProjection, database: ReadDatabase) -> None:
    """Have a log write an inline projection's read model in the transactions of its appends.

    Raises:
        InvalidProjectionError: the read model is in another database than the log, or the log in none.
    """
    if not hasattr(log, "attach"):
        raise InvalidProjectionError(f"{inline.name} cannot be inline: {type(log).__name__} is not in a SQL database")
    cast(JoinableLog, log).attach(inline, database)


async def catch_up(database: ReadDatabase, inline: InlineProjection) -> None:
    """Bring in what others appended, some of it at a time, as appends wait meanwhile.

    Raises:
        StorageError: the database failed.
    """
    is_there = False
    while not is_there:
        async with database.transaction() as transaction:
            is_there = await transaction.carry_out(inline.catch_up())


class _TooManyError(Exception):
    """More is missing than an append brings in."""
