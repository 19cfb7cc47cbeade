"""Reading the log in chunks: all that goes through more of it than fits into one answer reads it here.

1. A `Pace` says how many events to read next: more and more, as long as they are small.
2. A `ChunkReader` reads a chunk from a place on, learns its size, and reads the next chunk ahead if it is told to.
3. `chunks` iterates over all that there is, `scan_chunks` over the log from a mark on; `EventBatches` decodes.

A place is whatever the read function goes on from: a `Mark` of the log, a version of a stream. No position of the log
counts as seen because a head that was heard of lies beyond it: `EventLog.scan` says how far the log was seen.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from twofold.log.codec.unknown import Decoding, RowDecoder, readable
from twofold.log.query_check import NOTHING
from twofold.messages.event import RecordedEvent
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import Mark
from twofold.messages.stored_event import StoredEvent
from twofold.options import LogOptions
from twofold.ports.event_log import EventLog, Scan

P = TypeVar("P")

Rows = Sequence[StoredEvent]
Read = Callable[[P, int], Coroutine[Any, Any, tuple[Rows, P]]]
"""Return at most a number of rows behind a place, and the place to go on from."""


class ScanLog(Protocol):
    """`EventLog.scan`, or what answers like it."""

    def __call__(
        self, query: EventQuery, *, after: Mark, end: int | None = None, limit: int
    ) -> Coroutine[Any, Any, Scan]:
        """Return matching events behind a mark, and how far the log has then been seen; see `EventLog.scan`."""
        ...


class LeavesOut(Protocol):
    """`Skips`, or what leaves out events like it."""

    def without(self, events: Rows) -> Rows:
        """Return the events that are left."""
        ...


class Pace:
    """Tells how many events to read next, if they are like the last ones.

    Args:
        first: events to begin with.
        most: events that it never exceeds.
        most_bytes: bytes of payload that are read at once, about.
        growth: how many times as large as a chunk the next one may be.
    """

    def __init__(self, first: int, most: int, most_bytes: int, *, growth: int = 2) -> None:
        self.size = min(first, most)
        self._growth = growth
        self._most = most
        self._most_bytes = most_bytes

    def adapt(self, rows: Rows) -> None:
        """Learn from what was just read: some times as many may follow, or as many as fit."""
        if rows:
            fitting = len(rows) * self._most_bytes // max(sum([len(row.payload) for row in rows]), 1)
            self.size = max(1, min(self._growth * self.size, fitting, self._most))


def pace_of_all(options: LogOptions) -> Pace:
    """Return the pace at which whole logs are read."""
    return Pace(options.first_chunk, options.whole_log_chunk, options.chunk_bytes)


def pace_of(log: EventLog, options: LogOptions) -> Pace:
    """Return the pace at which events are read one by one.

    An engine whose answers come over a network has a `chunk`: as many events as it had better be asked for at once.
    """
    most = max(options.chunk, getattr(log, "chunk", 0))
    return Pace(options.first_chunk, most, options.chunk_bytes, growth=4)


class ChunkReader(Generic[P]):
    """Reads chunk after chunk. While one is worked on, the next may be on its way; there are never more than two."""

    def __init__(self, read: Read[P], pace: Pace) -> None:
        self._read = read
        self._pace = pace
        self._ahead: tuple[P, asyncio.Task[tuple[Rows, P]]] | None = None

    async def next(self, place: P, most: int = sys.maxsize) -> tuple[Rows, P, bool]:
        """Return what follows a place, the place behind it, and whether there may be more of it.

        Raises:
            StorageError: the log failed.
            HistoryChangedError: the log has another history than the place is of.
        """
        size = min(self._pace.size, most)
        if self._ahead and self._ahead[0] == place:
            (_, ahead), self._ahead = self._ahead, None
            rows, behind = await ahead
        else:
            await self.forget()
            rows, behind = await self._read(place, size)
        self._pace.adapt(rows)
        return rows, behind, len(rows) == size

    def read_ahead(self, place: P, most: int = sys.maxsize) -> None:
        """Begin to read what follows a place; `next` returns it."""
        size = min(self._pace.size, most)
        task = asyncio.create_task(self._read(place, size), name="twofold-read-ahead")
        task.add_done_callback(_look)
        self._ahead = place, task

    async def forget(self) -> None:
        """Drop what was read ahead."""
        begun, self._ahead = self._ahead, None
        if begun and begun[1].cancel():  # it was not done
            await asyncio.wait([begun[1]])


async def chunks(
    read: Read[P], place: P, pace: Pace, limit: int | None = None, *, begun: Rows = ()
) -> AsyncGenerator[Rows]:
    """Iterate over the rows that follow a place, at most `limit`, in chunks that grow, each read ahead of its use.

    Args:
        read: how to read a chunk.
        place: where to begin.
        pace: how large the chunks are.
        limit: rows, at most.
        begun: the chunk right before the place, which was read already and comes first.
    """
    reader, remaining = ChunkReader(read, pace), sys.maxsize if limit is None else limit
    try:
        if begun:
            pace.adapt(begun)
            reader.read_ahead(place, remaining)
            await asyncio.sleep(0)  # let it begin
            yield begun
        is_more = remaining > 0
        while is_more:
            rows, place, is_more = await reader.next(place, remaining)
            remaining -= len(rows)
            if is_more := is_more and remaining > 0:
                reader.read_ahead(place, remaining)
                await asyncio.sleep(0)  # let it begin
            yield rows
    finally:
        await reader.forget()


def scan_chunks(log: EventLog, query: EventQuery, after: Mark, end: int, pace: Pace) -> AsyncGenerator[Rows]:
    """Iterate over the events that match, from behind a mark up to a position or the end of the log."""

    async def read(place: Mark, size: int) -> Scan:
        return await log.scan(query, after=place, end=end, limit=size)

    return chunks(read, after, pace)


async def event_at(log: EventLog, position: int) -> StoredEvent | None:
    """Return the event that stands at a position; None if the log ends before it.

    Raises:
        StorageError: the log failed.
    """
    rows = await log.read(EventQuery.all(), after=position - 1, before=position + 1, limit=1)
    return rows[0] if rows else None


async def mark_at(log: EventLog, known: Mark, position: int | None = None) -> Mark:
    """Return the mark of a position in the history of an earlier mark; of the head, if the log ends before it.

    Raises:
        HistoryChangedError: the log has another history than the earlier mark is of.
        StorageError: the log failed.
    """
    return (await log.scan(NOTHING, after=known, end=position, limit=1)).covered


class Batch(NamedTuple):
    """Some events, in order, and how far the log has been seen with them."""

    events: Sequence[RecordedEvent[Any]]
    """May be empty: then no event up to the mark matches."""
    mark: Mark
    """All that matches up to here has been handed out. Save it as the checkpoint, with what you made of the events."""
    failure: Exception | None = None
    """Why the event right behind the mark cannot be handed out."""

    @property
    def position(self) -> int:
        """The position of the mark."""
        return self.mark.position


class EventBatches:
    """Reads and decodes the events that a query selects, batch after batch; the next is read ahead.

    Args:
        log: where the events are.
        decode: makes events of rows.
        query: selects them.
        most: events of a batch, at most.
        options: how a batch begins, and how large it gets.
        scan: reads the log for several readers at once; by default each reads for itself.
    """

    def __init__(
        self,
        log: EventLog,
        decode: RowDecoder,
        query: EventQuery,
        most: int,
        options: LogOptions | None = None,
        scan: ScanLog | None = None,
    ) -> None:
        options = options or LogOptions()
        self._log = log
        self._scan_log = scan or log.scan
        self._decoding = Decoding(decode)
        self._query = query
        self._end: int | None = None
        self._reader = ChunkReader(self._scan, Pace(options.first_batch, most, options.chunk_bytes))
        self.forget = self._reader.forget

    async def read(self, after: Mark, end: int, skips: LeavesOut | None = None) -> Batch:
        """Return what follows a mark, up to a position, and begin to read what follows that.

        Args:
            after: the mark.
            end: events beyond this are not looked at.
            skips: leaves out events before they are decoded.

        Raises:
            HistoryChangedError: the log has another history than the mark is of.
            StorageError: the log failed.
        """
        self._end = end
        rows, mark, is_more = await self._reader.next(after)
        if skips is not None:
            rows = skips.without(rows)
        batch = await decoded(self._log, self._decoding, rows, after, mark)
        if is_more and mark.position < end and not batch.failure:
            self._reader.read_ahead(mark)
        return batch

    async def _scan(self, after: Mark, size: int) -> Scan:
        return await self._scan_log(self._query, after=after, end=self._end, limit=size)


async def decoded(log: EventLog, decoding: Decoding, rows: Rows, after: Mark, mark: Mark) -> Batch:
    """Return rows between two marks as a batch. If one cannot be read, it is the batch of those before it."""
    events, failed, failure = await readable(decoding, rows)
    if failed is None:
        return Batch(events, mark)
    if place := rows.index(failed):
        after = Mark(rows[place - 1].position, rows[place - 1].event_id)
    is_next = failed.position - 1 == after.position
    return Batch(events, after if is_next else await mark_at(log, after, failed.position - 1), failure)


def _look(chunk: asyncio.Task[Any]) -> None:
    """Take notice of an error, in case the chunk is not wanted any more."""
    if not chunk.cancelled():
        chunk.exception()
