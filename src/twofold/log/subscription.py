"""Subscriptions: catch up with the log, then follow it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from twofold.errors import StorageUnavailableError
from twofold.log.codec import EventTypes
from twofold.log.pace import Pace
from twofold.messages.event import RecordedEvent
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import StoredEvent
from twofold.ports.event_log import EventLog

log = logging.getLogger(__name__)

FIRST, BATCH = 100, 1000
"""Events of the first batch, which tells how large they are, and of any, unless a subscriber wants fewer or more."""
POLL = 30.0
"""Seconds after which a waiting subscription looks by itself, should every signal have failed."""
FIRST_PAUSE, LAST_PAUSE = 0.1, 5.0
"""Seconds between two tries to reach a database that is away, doubled from the first to the last."""


class Batch(NamedTuple):
    """Some events, in order, and the position up to which the subscriber has now seen all that it asked for."""

    events: Sequence[RecordedEvent[Any]]
    """May be empty: then the filter skipped everything up to the position."""
    position: int


class Subscription:
    """An endless asynchronous iterator over batches; made by `EventStore.subscribe`.

    Each matching event is seen exactly once and in the order of positions, whatever other writers do. Save
    `batch.position` as the checkpoint, with what you made of the events, and go on from there after a restart.
    """

    def __init__(
        self,
        log: EventLog,
        events: EventTypes,
        query: EventQuery,
        stream_id: str | None,
        after: int,
        batch_size: int,
    ) -> None:
        self._log = log
        self._events = events
        self._query = query
        self._stream_id = stream_id
        self._pace = Pace(FIRST, batch_size)
        self._version = 0
        self.position = after
        """Everything up to here has been handed out."""

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Batch:
        """Return the next batch, waiting for it as long as it takes, and through restarts of the database.

        Raises:
            CorruptEventError, UnknownEventTypeError, NewerSchemaError, UnreadableEventError: on an event of it.
            StorageError: the database failed in a way that trying again does not mend.
        """
        pause = FIRST_PAUSE
        while True:
            try:
                if batch := await self._next():
                    return batch
            except StorageUnavailableError as error:
                log.warning("subscription at %d waits for the database: %s", self.position, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LAST_PAUSE)

    async def _next(self) -> Batch | None:
        head = await self._log.wait(self.position, POLL)
        if head <= self.position:
            head = await self._log.head()  # should the signal have been lost
        if head <= self.position:
            return None
        if self._stream_id is None:
            size = self._pace.size
            rows = await self._log.read(self._query, after=self.position, before=head + 1, limit=size)
            covered = rows[-1].position if len(rows) == size else head
        else:
            rows = await self._read_stream(self._stream_id)
            covered = rows[-1].position if rows else head
        batch = Batch(self._events.decode(rows), covered)
        self._pace.adapt(rows)
        self._version, self.position = rows[-1].version if rows else self._version, covered
        return batch

    async def _read_stream(self, stream_id: str) -> Sequence[StoredEvent]:
        """Return what follows in the stream. After a restart its version is not known, only the position is."""
        after = self._version
        while rows := await self._log.read_stream(stream_id, after=after, limit=self._pace.size):
            if fresh := [row for row in rows if row.position > self.position]:
                return fresh
            after = self._version = rows[-1].version
        return ()
