"""Subscriptions: catch up with the log, then follow it."""

from __future__ import annotations

import asyncio
import logging

from twofold.errors import HistoryChangedError, StorageUnavailableError
from twofold.log.chunks import Batch, ChunkReader, Pace, Rows, decoded, mark_at
from twofold.log.codec.stored_names import can_be_stored
from twofold.log.codec.unknown import Decoding, RowDecoder
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import Mark
from twofold.options import LogOptions
from twofold.ports.event_log import EventLog

log = logging.getLogger(__name__)


class Subscription:
    """An endless asynchronous iterator over batches; made by `EventStore.subscribe`.

    Each matching event is seen exactly once and in the order of positions, whatever other writers do. Save `batch.mark`
    as the checkpoint, with what you made of the events, and subscribe after it when you start again. If the log has
    another history by then, or gets one while you follow it, the subscription says so instead of skipping events.
    """

    def __init__(
        self,
        log: EventLog,
        decode: RowDecoder,
        query: EventQuery,
        stream_id: str | None,
        after: Mark,
        batch_size: int,
        options: LogOptions,
    ) -> None:
        self._log = log
        self._decoding = Decoding(decode)
        self._query = query
        self._stream_id = stream_id
        self._options = options
        self._reader = ChunkReader(self._read, Pace(options.first_chunk, batch_size, options.chunk_bytes))
        self._version = 0
        self._has_compared = False
        self.mark = after
        """All that matches up to here has been handed out."""

    @property
    def position(self) -> int:
        """The position of the mark."""
        return self.mark.position

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Batch:
        """Return the next batch, waiting for it as long as it takes, and through restarts of the database.

        Raises:
            HistoryChangedError: the log does not hold what the subscriber has seen last.
            CorruptEventError, UnknownEventTypeError, NewerSchemaError, UnreadableEventError: on the event behind the
                mark. All events before it were handed out. The subscription goes on there when it is asked again, as
                soon as the event can be read, such as after `store.events.register(...)`.
            StorageError: the database failed in a way that trying again does not mend.
        """
        pause = self._options.first_pause
        while True:
            try:
                if batch := await self._next():
                    return batch
            except StorageUnavailableError as error:
                self._has_compared = False
                log.warning("subscription at %d waits for the database: %s", self.position, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, self._options.last_pause)
            except HistoryChangedError as error:
                raise error.of("the subscription") from None

    async def _next(self) -> Batch | None:
        """Wait until there may be more, and return it; None if there is not, after all.

        It reads without waiting at first and after a failure, to compare the mark, and after a time-out, should the
        signal have been lost.
        """
        if self._has_compared:
            await self._log.wait(self.position, self._options.poll)
        rows, mark, _ = await self._reader.next(self.mark)
        self._has_compared = True
        if mark.position == self.position and not rows:
            self.mark = mark
            return None
        batch = await decoded(self._log, self._decoding, rows, self.mark, mark)
        if batch.failure and not batch.events:
            raise batch.failure
        if batch.events:
            self._version = batch.events[-1].version
        self.mark = batch.mark
        return Batch(batch.events, batch.mark)  # what stops it is raised when it is asked for the next one

    async def _read(self, after: Mark, size: int) -> tuple[Rows, Mark]:
        if self._stream_id is None:
            return await self._log.scan(self._query, after=after, limit=size)
        covered = await mark_at(self._log, after)  # first: what is appended from here on is not covered
        rows = await self._read_stream(self._stream_id, after.position, covered.position, size)
        return rows, Mark(rows[-1].position, rows[-1].event_id) if rows else covered

    async def _read_stream(self, stream_id: str, after: int, end: int, size: int) -> Rows:
        """Return what follows in the stream. After a restart its version is not known, only the position is."""
        if not can_be_stored(stream_id):
            return ()
        while rows := await self._log.read_stream(stream_id, after=self._version, limit=size):
            if rows[-1].position > after:
                return [row for row in rows if after < row.position <= end]
            self._version = rows[-1].version
        return ()
