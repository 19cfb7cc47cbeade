"""The event log in memory: short, exact, the reference that the other engines are compared with."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from uuid import uuid4

import msgspec

from twofold.errors import HistoryChangedError
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import Mark
from twofold.messages.stored_event import StoredEvent
from twofold.messages.stream import holds
from twofold.ports.event_log import (
    Append,
    Appended,
    CommandRecord,
    Rejected,
    Scan,
    condition_rejection,
    record,
    repeated,
    repeated_command,
    scanned,
    version_rejection,
)
from twofold.ports.maintenance import Inspection, StoredCommand, refuse_gaps


class MemoryEventLog:
    """Keep everything in lists, for as long as the process lives. For tests, and to be read."""

    def __init__(self) -> None:
        self._id = uuid4().bytes
        self._events: list[StoredEvent] = []
        self._streams: dict[str, list[StoredEvent]] = {}
        self._by_id: dict[bytes, StoredEvent] = {}
        self._commands: dict[bytes, tuple[CommandRecord, Appended]] = {}
        self._grown = asyncio.Event()

    async def open(self) -> None:
        """See `EventLog.open`."""

    async def close(self) -> None:
        """See `EventLog.close`."""

    async def append(self, append: Append) -> Appended | Rejected:
        """See `EventLog.append`."""
        judged = self._repeated(append) or self._rejected(append)
        return judged or self._store(append)

    async def read(
        self,
        query: EventQuery,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int,
        backwards: bool = False,
    ) -> Sequence[StoredEvent]:
        """See `EventLog.read`."""
        end = len(self._events) if before is None else max(before - 1, 0)
        found = [event for event in self._events[max(after, 0) : end] if _matches(query, event)]
        return (found[::-1] if backwards else found)[:limit]

    async def scan(self, query: EventQuery, *, after: Mark, end: int | None = None, limit: int) -> Scan:
        head = len(self._events)
        stands = self._mark(after.position)
        if stands is None or not after.agrees(stands):
            raise HistoryChangedError(after, stands, head)
        last = max(head if end is None else min(end, head), after.position)
        found = (event for event in self._events[after.position : last] if _matches(query, event))
        return scanned(list(islice(found, limit)), limit, self._mark(last) or stands)

    async def mark(self, position: int) -> Mark | None:
        return self._mark(position)

    async def read_stream(self, stream_id: str, *, after: int = 0, limit: int) -> Sequence[StoredEvent]:
        """See `EventLog.read_stream`."""
        return self._streams.get(stream_id, [])[after : after + limit]

    async def head(self) -> int:
        """See `EventLog.head`."""
        return len(self._events)

    async def wait(self, after: int, timeout: float) -> int:
        """See `EventLog.wait`."""
        try:
            async with asyncio.timeout(timeout):
                while len(self._events) <= after:
                    await self._grown.wait()
        except TimeoutError:
            pass
        return len(self._events)

    async def find_command(self, command_id: bytes) -> tuple[CommandRecord, Appended] | None:
        """See `EventLog.find_command`."""
        return self._commands.get(command_id)

    async def restore(self, rows: Sequence[StoredEvent], commands: Sequence[StoredCommand] = ()) -> None:
        """See `PortableLog.restore`."""
        refuse_gaps(rows, commands, len(self._events))
        for row in rows:
            self._keep(row)
        for command_id, content_hash, result, first, last in commands:
            appended = Appended(first, last, result=result, version=self._events[last - 1].version)
            self._commands[command_id] = (CommandRecord(command_id, content_hash, result), appended)
        self._wake()

    async def adopt(self, log_id: bytes) -> None:
        self._id = self._id if self._events else log_id

    async def read_commands(self, *, after: bytes = b"", limit: int) -> Sequence[StoredCommand]:
        """See `PortableLog.read_commands`."""
        wanted = sorted(command_id for command_id in self._commands if command_id > after)[:limit]
        known = map(self._commands.__getitem__, wanted)
        return [StoredCommand(*record, appended.first, appended.last) for record, appended in known]

    async def check(self) -> Sequence[str]:
        """See `PortableLog.check`."""
        return []

    async def inspect(self) -> Inspection:
        """See `PortableLog.inspect`."""
        types = Counter(event.type for event in self._events)
        return Inspection(len(self._events), types, len(self._commands), 0, 0, [])

    def _mark(self, position: int) -> Mark | None:
        if position == 0:
            return Mark(0, self._id)
        return Mark(position, self._events[position - 1].event_id) if 0 < position <= len(self._events) else None

    def _repeated(self, append: Append) -> Appended | None:
        if append.command and (known := self._commands.get(append.command.command_id)):
            return repeated_command(append.command, known)
        return repeated(append.events, [self._by_id.get(event.event_id) for event in append.events])

    def _rejected(self, append: Append) -> Rejected | None:
        for stream_id, expected in append.expected:
            stream = self._streams.get(stream_id, [])
            if not holds(expected, len(stream)):
                newer = stream[max(expected, 0) :] if isinstance(expected, int) else []
                return version_rejection(stream_id, expected, len(stream), newer)
        if condition := append.condition:
            later = self._events[max(condition.after or 0, 0) :]
            if conflicts := [event for event in later if _matches(condition.fail_if, event)]:
                return condition_rejection(condition, conflicts)
        return None

    def _store(self, append: Append) -> Appended:
        now, first = time.time_ns() // 1000, len(self._events) + 1
        for event in append.events:
            stream = self._streams.get(event.stream_id, [])
            self._keep(record(event, len(self._events) + 1, len(stream) + 1 if event.stream_id else 0, now))
        result = append.command.result if append.command else b""
        appended = Appended(first, len(self._events), result=result, version=self._events[-1].version)
        if append.command:
            self._commands[append.command.command_id] = (append.command, appended)
        self._wake()
        return appended

    def _keep(self, stored: StoredEvent) -> None:
        if stored.stream_id:
            self._streams.setdefault(stored.stream_id, []).append(stored)
        self._events.append(stored)
        self._by_id[stored.event_id] = stored

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()


def _matches(query: EventQuery, event: StoredEvent) -> bool:
    return query.matches(event.type, msgspec.json.decode(event.tags, type=list[str]))
