"""The reference with a bug planted in it: what the suite and the state machine must not let pass."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from twofold.engines.memory import MemoryEventLog
from twofold.messages.event_query import EventQuery, QueryItem
from twofold.messages.mark import Mark
from twofold.messages.stored_event import StoredEvent, record
from twofold.ports.event_log import Append, Appended, Rejected, Scan


class NoConditionCheck(MemoryEventLog):
    def _rejected(self, append: Append) -> Rejected | None:
        return super()._rejected(msgspec.structs.replace(append, condition=None))


class NoVersionCheck(MemoryEventLog):
    def _rejected(self, append: Append) -> Rejected | None:
        return super()._rejected(msgspec.structs.replace(append, expected=()))


class NoEndCheck(MemoryEventLog):
    def _ended(self, append: Append) -> Rejected | None:
        return None


class VersionsOffByOne(MemoryEventLog):
    def _store(self, append: Append) -> Appended:
        appended = super()._store(append)
        for place in range(appended.first - 1, appended.last):
            row = self._events[place]
            wrong = replace(row, version=row.version - 1 if row.stream_id else 0)
            self._events[place] = wrong
            if row.stream_id:
                self._streams[row.stream_id][row.version - 1] = wrong
        return appended


class PartialAppend(MemoryEventLog):
    """Stores each stream of an append by itself, and so a part of what it rejects."""

    def _rejected(self, append: Append) -> Rejected | None:
        rejected = super()._rejected(append)
        if rejected and append.events[0].stream_id != rejected.stream_id:
            self._store(msgspec.structs.replace(append, events=append.events[:1], command=None))
        return rejected


class NoIdempotency(MemoryEventLog):
    def _repeated(self, append: Append) -> Appended | None:
        return None


class CommandsForgotten(MemoryEventLog):
    def _store(self, append: Append) -> Appended:
        appended = super()._store(append)
        if append.command:
            del self._commands[append.command.command_id]
        return appended


class TagsOred(MemoryEventLog):
    def _rejected(self, append: Append) -> Rejected | None:
        if condition := append.condition:
            ored = msgspec.structs.replace(condition, fail_if=_ored(condition.fail_if))
            append = msgspec.structs.replace(append, condition=ored)
        return super()._rejected(append)

    async def read(self, query: EventQuery, **window: Any) -> Sequence[StoredEvent]:
        return await super().read(_ored(query), **window)


class AfterIncluded(MemoryEventLog):
    async def read(self, query: EventQuery, *, after: int = 0, **window: Any) -> Sequence[StoredEvent]:
        return await super().read(query, after=after - 1, **window)


class ConditionAfterIncluded(MemoryEventLog):
    def _rejected(self, append: Append) -> Rejected | None:
        if (condition := append.condition) and condition.after:
            earlier = msgspec.structs.replace(condition, after=condition.after - 1)
            append = msgspec.structs.replace(append, condition=earlier)
        return super()._rejected(append)


class EmptyReadUnprotected(MemoryEventLog):
    """Takes `after=0` for "no condition"."""

    def _rejected(self, append: Append) -> Rejected | None:
        if append.condition and not append.condition.after:
            append = msgspec.structs.replace(append, condition=None)
        return super()._rejected(append)


class ItemsReadOneByOne(MemoryEventLog):
    """Returns an event once for each item that matches it, and out of order."""

    async def read(self, query: EventQuery, *, limit: int, **window: Any) -> Sequence[StoredEvent]:
        rows: list[StoredEvent] = []
        for item in query.items:
            rows += await super().read(EventQuery((item,)), limit=limit, **window)
        return rows[:limit]


class LimitBeforeOrder(MemoryEventLog):
    async def read(self, query: EventQuery, *, backwards: bool = False, **window: Any) -> Sequence[StoredEvent]:
        rows = await super().read(query, **window)
        return rows[::-1] if backwards else rows


class GapAfterRejection(MemoryEventLog):
    def __init__(self) -> None:
        super().__init__()
        self._skipped = 0

    async def append(self, append: Append) -> Appended | Rejected:
        outcome = await super().append(append)
        if isinstance(outcome, Rejected):
            self._skipped += 1
            return outcome
        return outcome._replace(first=outcome.first + self._skipped, last=outcome.last + self._skipped)


class ConflictsWithheld(MemoryEventLog):
    async def append(self, append: Append) -> Appended | Rejected:
        outcome = await super().append(append)
        return outcome._replace(conflicts=()) if isinstance(outcome, Rejected) else outcome


class PayloadRewritten(MemoryEventLog):
    """Parses JSON and writes it anew, as a `jsonb` column would."""

    def _store(self, append: Append) -> Appended:
        appended = super()._store(append)
        for place, event in enumerate(append.events, appended.first):
            payload = msgspec.json.encode(msgspec.json.decode(event.payload), order="sorted")
            stored = self._events[place - 1]
            rewritten = record(event._replace(payload=payload), place, stored.version, stored.recorded_at)
            self._events[place - 1] = rewritten
            if event.stream_id:
                self._streams[event.stream_id][stored.version - 1] = rewritten
        return appended


class CommittedLate(MemoryEventLog):
    """Every other append becomes visible a little after later ones have, as positions from a sequence do."""

    def __init__(self) -> None:
        super().__init__()
        self._late: set[int] = set()
        self._appends = 0

    async def append(self, append: Append) -> Appended | Rejected:
        self._appends += 1
        outcome = await super().append(append)
        if self._appends % 2 and isinstance(outcome, Appended):
            places = set(range(outcome.first, outcome.last + 1))
            self._late |= places
            for _ in range(3):
                await asyncio.sleep(0)
            self._late -= places
        return outcome

    async def read(self, query: EventQuery, **window: Any) -> Sequence[StoredEvent]:
        await asyncio.sleep(0)
        return [row for row in await super().read(query, **window) if row.position not in self._late]


class MarksNotCompared(MemoryEventLog):
    async def scan(self, query: EventQuery, *, after: Mark, **window: Any) -> Scan:
        return await super().scan(query, after=Mark(min(after.position, len(self._events))), **window)


class CoveredToTheHead(MemoryEventLog):
    """Takes the head for covered, although the limit may have ended the rows before it."""

    async def scan(self, query: EventQuery, **window: Any) -> Scan:
        scan = await super().scan(query, **window)
        return scan._replace(covered=await self.mark(len(self._events)) or scan.covered)


class Polling(MemoryEventLog):
    """Looks for new events again and again, with a sleep in between."""

    async def wait(self, after: int, timeout: float) -> int:
        for _ in range(round(timeout / 0.1)):
            if len(self._events) > after:
                break
            await asyncio.sleep(0.1)
        return len(self._events)


def _ored(query: EventQuery) -> EventQuery:
    one_by_one = ([QueryItem(item.types, (tag,)) for tag in item.tags] or [item] for item in query.items)
    return EventQuery(tuple(item for items in one_by_one for item in items))


BROKEN: dict[str, type[MemoryEventLog]] = {
    cls.__name__: cls
    for cls in (
        NoConditionCheck, NoVersionCheck, VersionsOffByOne, PartialAppend, NoIdempotency, CommandsForgotten, TagsOred,
        AfterIncluded, ConditionAfterIncluded, EmptyReadUnprotected, ItemsReadOneByOne, LimitBeforeOrder,
        GapAfterRejection, ConflictsWithheld, PayloadRewritten, MarksNotCompared, CoveredToTheHead,
    )
}  # fmt: skip
IN_TIME: dict[str, type[MemoryEventLog]] = {cls.__name__: cls for cls in (CommittedLate, Polling)}
"""Those that go wrong when calls overlap, or take too long: the state machine makes one call after the other."""
UNMODELLED: dict[str, type[MemoryEventLog]] = {cls.__name__: cls for cls in (NoEndCheck,)}
"""Those that go wrong with appends that the state machine does not make."""


def broken(bug: str) -> MemoryEventLog:
    return BROKEN[bug]()
