"""A real event log that counts what it is asked for, and can be away for a while."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tests.synchronizing import deposited, opened, write

from twofold import EventQuery, EventStore
from twofold.engines.memory import MemoryEventLog
from twofold.errors import StorageUnavailableError
from twofold.log.query_check import NOTHING
from twofold.messages.mark import Mark
from twofold.messages.stored_event import StoredEvent
from twofold.ports.event_log import Append, Appended, EventLog, FoundCommand, Rejected, Scan


class RecordingLog:
    """Passes every call on to the log behind it, notes it, and lets a test wait at each of them."""

    def __init__(self, behind: EventLog) -> None:
        self._behind = behind
        self.calls: Counter[str] = Counter()
        self.appends: list[Append] = []
        self.rows_scanned = 0
        self.away = False
        self._changed = asyncio.Condition()
        self.before_append: Callable[[Append], Any] | None = None

    @property
    def reads(self) -> int:
        """Number of times that events were read."""
        return self.calls["read"] + self.calls["scan"] + self.calls["read_stream"]

    async def asked(self, call: str, times: int) -> None:
        """Wait until a call has been made so often."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.calls[call] >= times)

    @property
    def times_set_back(self) -> int:
        return self._behind.times_set_back

    async def open(self) -> None:
        await self._behind.open()

    async def close(self) -> None:
        await self._behind.close()

    async def append(self, append: Append) -> Appended | Rejected:
        await self._note("append")
        self.appends.append(append)
        if self.before_append and asyncio.iscoroutine(pause := self.before_append(append)):
            await pause
        return await self._behind.append(append)

    async def read(
        self, query: EventQuery, *, after: int = 0, before: int | None = None, limit: int, backwards: bool = False
    ) -> Sequence[StoredEvent]:
        await self._note("read")
        return await self._behind.read(query, after=after, before=before, limit=limit, backwards=backwards)

    async def scan(self, query: EventQuery, *, after: Mark, end: int | None = None, limit: int) -> Scan:
        await self._note("scan" if query != NOTHING else "compare")
        found = await self._behind.scan(query, after=after, end=end, limit=limit)
        self.rows_scanned += len(found.rows)
        return found

    async def mark(self, position: int) -> Mark | None:
        await self._note("mark")
        return await self._behind.mark(position)

    async def read_stream(
        self, stream_id: str, *, after: int = 0, limit: int, without: Sequence[str] = ()
    ) -> Sequence[StoredEvent]:
        await self._note("read_stream")
        return await self._behind.read_stream(stream_id, after=after, limit=limit, without=without)

    async def head(self) -> int:
        await self._note("head")
        return await self._behind.head()

    async def wait(self, after: int, timeout: float) -> int:
        await self._note("wait")
        return await self._behind.wait(after, timeout)

    async def find_command(self, command_id: bytes) -> FoundCommand | None:
        await self._note("find_command")
        return await self._behind.find_command(command_id)

    async def _note(self, call: str) -> None:
        async with self._changed:
            self.calls[call] += 1
            self._changed.notify_all()
        if self.away:
            raise StorageUnavailableError("the database is away, says the test")


@asynccontextmanager
async def log_of_deposits(events: int) -> AsyncIterator[RecordingLog]:
    """Open a log in memory that holds deposits of two accounts among openings, and has noted nothing so far."""
    log = RecordingLog(MemoryEventLog())
    await log.open()
    await write(EventStore(log), *(deposited("ab"[n % 2]) if n % 5 else opened("a") for n in range(events)))
    log.calls.clear()
    yield log
    await log.close()
