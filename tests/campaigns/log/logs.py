"""The logs of the campaigns: the sound one of each engine, and around either a client, a planted bug, or bad luck."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from twofold import EventQuery
from twofold.engines.engine import connect
from twofold.errors import OutcomeUnknownError, StorageError, StorageUnavailableError
from twofold.messages.ids import uuid7
from twofold.messages.mark import Mark
from twofold.messages.stored_event import NewEvent, StoredEvent, content_checksum
from twofold.ports.event_log import Append, Appended, EventLog, FoundCommand, Rejected, Scan

T = TypeVar("T")

IN_DOUBT = (OutcomeUnknownError, StorageUnavailableError)


def sound(url: str) -> EventLog:
    return connect(url).log


class Around:
    """Passes every call on to the log behind it."""

    def __init__(self, behind: EventLog) -> None:
        self._behind = behind

    @property
    def times_set_back(self) -> int:
        return self._behind.times_set_back

    async def open(self) -> None:
        await self._behind.open()

    async def close(self) -> None:
        await self._behind.close()

    async def append(self, append: Append) -> Appended | Rejected:
        return await self._behind.append(append)

    async def read(self, query: EventQuery, **window: Any) -> Sequence[StoredEvent]:
        return await self._behind.read(query, **window)

    async def scan(self, query: EventQuery, **window: Any) -> Scan:
        return await self._behind.scan(query, **window)

    async def mark(self, position: int) -> Mark | None:
        return await self._behind.mark(position)

    async def read_stream(self, stream_id: str, **window: Any) -> Sequence[StoredEvent]:
        return await self._behind.read_stream(stream_id, **window)

    async def head(self) -> int:
        return await self._behind.head()

    async def wait(self, after: int, timeout: float) -> int:
        return await self._behind.wait(after, timeout)

    async def find_command(self, command_id: bytes) -> FoundCommand | None:
        return await self._behind.find_command(command_id)


async def _again_until_available(call: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await call()
        except StorageUnavailableError:
            await asyncio.sleep(0.01)


class Patient(Around):
    """The client that the manual asks for: it repeats with the same ids until it knows, and reads until it can."""

    async def open(self) -> None:
        await _again_until_available(super().open)

    async def append(self, append: Append) -> Appended | Rejected:
        while True:
            try:
                return await super().append(append)
            except IN_DOUBT:
                await asyncio.sleep(0.01)

    async def read(self, query: EventQuery, **window: Any) -> Sequence[StoredEvent]:
        return await _again_until_available(partial(super().read, query, **window))

    async def scan(self, query: EventQuery, **window: Any) -> Scan:
        return await _again_until_available(partial(super().scan, query, **window))

    async def mark(self, position: int) -> Mark | None:
        return await _again_until_available(partial(super().mark, position))

    async def read_stream(self, stream_id: str, **window: Any) -> Sequence[StoredEvent]:
        return await _again_until_available(partial(super().read_stream, stream_id, **window))

    async def head(self) -> int:
        return await _again_until_available(super().head)


class FreshIds(Patient):
    """Planted bug: takes an append in doubt for one that failed, and tries again with new event ids."""

    async def append(self, append: Append) -> Appended | Rejected:
        while True:
            try:
                return await self._behind.append(append)
            except IN_DOUBT:
                append = Append(tuple(map(renamed, append.events)))
                await asyncio.sleep(0.01)


class GivingUp(Patient):
    """Planted bug: tells that an append in doubt has failed."""

    async def append(self, append: Append) -> Appended | Rejected:
        try:
            return await self._behind.append(append)
        except IN_DOUBT as error:
            return Rejected(str(error))


class Interrupted(Around):
    """Bad luck: the task that appends is cancelled, now and then, at any moment."""

    async def append(self, append: Append) -> Appended | Rejected:
        task = asyncio.create_task(self._behind.append(append))
        if random.random() < 0.2:
            await asyncio.wait({task}, timeout=random.choice((0, random.uniform(0, 0.005))))
            task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            if (me := asyncio.current_task()) and me.cancelling():
                raise
            raise OutcomeUnknownError("the task was cancelled") from None


class InPieces(Around):
    """Planted bug: a commit per event."""

    async def append(self, append: Append) -> Appended | Rejected:
        first = await super().append(Append(append.events[:1], append.expected, append.condition, append.command))
        if isinstance(first, Rejected) or first.repeated:
            return first
        last = first
        for event in append.events[1:]:
            outcome = await super().append(Append((event,)))
            assert isinstance(outcome, Appended)
            last = outcome
        return Appended(first.first, last.last)


class Unconditional(Around):
    """Planted bug: forgets the conditions (check-then-append without the check)."""

    async def append(self, append: Append) -> Appended | Rejected:
        return await super().append(Append(append.events, append.expected, None, append.command))


class Hasty(Around):
    """Planted bug: acknowledges before the commit."""

    async def append(self, append: Append) -> Appended | Rejected:
        head = await self.head()
        task = asyncio.create_task(super().append(append))
        await asyncio.wait({task}, timeout=0.0005)
        return task.result() if task.done() else Appended(head + 1, head + len(append.events))


class Swallowing(Around):
    """Planted bug: takes an error of the storage for a success."""

    async def append(self, append: Append) -> Appended | Rejected:
        head = await self.head()
        try:
            return await super().append(append)
        except (StorageError, OutcomeUnknownError):
            return Appended(head + 1, head + len(append.events))


def around(cls: type[Around], url: str) -> EventLog:
    """Return the sound log with one of the above around it."""
    return cls(sound(url))


def renamed(event: NewEvent) -> NewEvent:
    """Return an event with the same content under a new id."""
    fresh = event._replace(event_id=uuid7().bytes)
    return fresh._replace(content_checksum=content_checksum(fresh))
