"""Batches of what follows in the log; while one is worked on, the next is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from twofold.log.event_store import EventStore
from twofold.log.pace import Pace
from twofold.messages.event import RecordedEvent
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import StoredEvent

FIRST_SIZE = 4
"""Events of the first batch, at most, which tells how large they are."""


class Batch(NamedTuple):
    """What follows in the log."""

    events: Sequence[RecordedEvent[Any]]
    position: int
    """Up to here it has been read."""
    failure: Exception | None = None
    """Why the event right behind the position cannot be handed on."""


class Batches:
    """Reads the events that a query selects.

    Args:
        store: where the events are.
        query: selects them.
        size: so many at once, at most; fewer where they are large, lest a batch takes longer to read than a lease.
    """

    def __init__(self, store: EventStore, query: EventQuery, size: int) -> None:
        self._store = store
        self._query = query
        self._pace = Pace(FIRST_SIZE, size)
        self._ahead: tuple[int, asyncio.Task[Batch]] | None = None

    async def read(self, after: int, end: int, passed_over: Collection[int]) -> Batch:
        """Return what follows a position, up to another one, and begin to read what follows that.

        Args:
            after: the position.
            end: events beyond this are not looked at.
            passed_over: positions of events that are left out; while batches follow each other, always the same.

        Raises:
            StorageError: the log failed.
        """
        if self._ahead and self._ahead[0] == after:
            (_, ahead), self._ahead = self._ahead, None
            batch = await ahead
        else:
            await self.forget()
            batch = await self._read(after, end, passed_over)
        if batch.position < end and not batch.failure:
            task = asyncio.create_task(self._read(batch.position, end, passed_over), name="twofold-read-ahead")
            self._ahead = batch.position, task
        return batch

    async def forget(self) -> None:
        """Drop what was read ahead."""
        begun, self._ahead = self._ahead, None
        if begun:
            begun[1].cancel()
            await asyncio.gather(begun[1], return_exceptions=True)

    async def _read(self, after: int, end: int, passed_over: Collection[int]) -> Batch:
        size = self._pace.size
        rows = await self._store.log.read(self._query, after=after, before=end + 1, limit=size)
        covered = rows[-1].position if len(rows) == size else end
        self._pace.adapt(rows)
        if passed_over:
            rows = [row for row in rows if row.position not in passed_over]
        try:
            return Batch(self._store.events.decode(rows), covered)
        except Exception:
            return self._readable(rows)

    def _readable(self, rows: Sequence[StoredEvent]) -> Batch:
        """Return the events before the first that cannot be read."""
        events: list[RecordedEvent[Any]] = []
        for row in rows:
            try:
                events += self._store.events.decode([row])
            except Exception as error:
                return Batch(events, row.position - 1, error)
        raise AssertionError("the second reading differs from the first")
