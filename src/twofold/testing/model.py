"""A state machine that drives a log and the reference side by side, and compares every answer."""
# ruff: noqa: D102  # rules speak for themselves; asserts are the point

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar
from uuid import UUID

try:
    from hypothesis import strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
except ImportError as error:
    raise ImportError("twofold.testing.event_log_machine needs hypothesis; `pip install hypothesis`") from error

from twofold.engines.memory import MemoryEventLog
from twofold.errors import HistoryChangedError, TwofoldError
from twofold.messages.event_query import AppendCondition, EventQuery, QueryItem
from twofold.messages.mark import Mark
from twofold.messages.stored_event import COLUMNS, NewEvent, StoredEvent, is_intact
from twofold.messages.stream import ANY, STREAM_EXISTS, ExpectedVersion
from twofold.ports.event_log import Append, Appended, CommandRecord, EventLog, Rejected
from twofold.testing.samples import Noted, Revised, Withdrawn, new_event

T = TypeVar("T")

STREAMS = ("", "Note-1", "Note-2", "Note-3")
TOPICS = ("x", "y", "z")
KINDS = (Noted, Revised, Withdrawn)

topics = st.lists(st.sampled_from(TOPICS), unique=True, max_size=3)
bodies = st.tuples(st.sampled_from(STREAMS), topics, st.sampled_from(KINDS), st.text("aé\"'\\ ", max_size=5))
items = st.builds(
    QueryItem,
    types=st.lists(st.sampled_from([kind.__name__ for kind in KINDS]), unique=True, max_size=2).map(tuple),
    tags=topics.map(lambda names: tuple(f"topic:{name}" for name in names[:2])),
)
queries = st.lists(items, min_size=1, max_size=4).map(lambda many: EventQuery(tuple(many)))
places = st.integers(-3, 3)
"""Distances from a version or from the head: exact, somewhat behind, beyond."""
expectations = st.dictionaries(
    st.sampled_from(STREAMS[1:]), st.one_of(st.sampled_from([0, ANY, STREAM_EXISTS]), st.tuples(places)), max_size=2
)
conditions = st.none() | st.tuples(queries, st.none() | places.map(lambda place: (place,)) | st.integers(0, 5))
decisions = st.tuples(st.lists(bodies, min_size=1, max_size=4), expectations, conditions, st.integers(0, 9))


def comparable(outcome: object, *, exact: bool) -> object:
    """Return what two logs must agree on. Of an append that fails for several reasons, any may be reported."""
    if isinstance(outcome, Rejected):
        facts = (outcome.stream_id, outcome.version, tuple(row.position for row in outcome.conflicts))
        return ("rejected", *facts) if exact else ("rejected",)
    if isinstance(outcome, Appended):
        return outcome._replace(rows=()), contents(outcome.rows)
    return (type(outcome), str(outcome)) if isinstance(outcome, TwofoldError) else outcome


def contents(rows: Sequence[StoredEvent]) -> list[tuple[object, ...]]:
    """Return all of the rows but what differs from log to log: the time, and the checksum over it."""
    assert all(is_intact(row) for row in rows)
    return [tuple(getattr(row, name) for name in COLUMNS if name not in ("recorded_at", "checksum")) for row in rows]


class EventLogMachine(RuleBasedStateMachine):
    """Every step does the same to both logs; `event_log_machine` tells it how to make the one to be tried."""

    make_log: staticmethod[[], Awaitable[EventLog]]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.reference = MemoryEventLog()
        self.log = self.run(self._made())
        self.earlier: list[Append] = []
        self.commands: list[CommandRecord] = []
        self.serial = 0

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def teardown(self) -> None:
        try:
            self.run(self.log.close())
        finally:
            self.runner.close()

    @rule(decision=decisions)
    def append(self, decision: Any) -> None:
        self._compare_appends([self._append(*decision)])

    @rule(batch=st.lists(decisions, min_size=2, max_size=8), repeats=st.lists(st.integers(0, 99), max_size=3))
    def append_at_one_moment(self, batch: list[Any], repeats: list[int]) -> None:
        appends = [self._append(*decision) for decision in batch]
        for pick in repeats:  # of an append of this very moment, or of an earlier one
            known = self.earlier + appends
            appends.insert(pick % (len(appends) + 1), known[pick % len(known)])
        self._compare_appends(appends)

    @rule(pick=st.integers(0, 99), expected=expectations, condition=conditions)
    def repeat(self, pick: int, expected: Any, condition: Any) -> None:
        if self.earlier:
            first = self.earlier[pick % len(self.earlier)]
            again = Append(first.events, self._expected(expected), self._condition(condition), first.command)
            self._compare_appends([again])

    @rule(pick=st.integers(0, 99), body=bodies, keep=st.integers(0, 2), front=st.booleans())
    def misuse_an_event_id(self, pick: int, body: Any, keep: int, front: bool) -> None:
        if self.earlier:
            known = self.earlier[pick % len(self.earlier)].events
            other = self._event(body)
            if keep == 0:
                other = self._event(body, UUID(bytes=known[0].event_id))
            events = (*known[:keep], other)
            self._compare_appends([Append(events if front else events[::-1])])

    @rule(pick=st.integers(0, 99), body=bodies, content_hash=st.sampled_from([b"#" * 32, b"?" * 32]))
    def repeat_a_command(self, pick: int, body: Any, content_hash: bytes) -> None:
        if self.commands:
            command = self.commands[pick % len(self.commands)]._replace(content_hash=content_hash)
            self._compare_appends([Append((self._event(body),), command=command)])

    @rule(query=queries | st.just(EventQuery.all()), window=st.tuples(places, places), bounded=st.booleans(),
          limit=st.integers(1, 12), backwards=st.booleans())  # fmt: skip
    def read(self, query: EventQuery, window: tuple[int, int], bounded: bool, limit: int, backwards: bool) -> None:
        head = self.run(self.reference.head())
        after, before = max(window[0] + head // 2, 0), max(window[1] + head, 0) if bounded else None
        found = [self.run(_read(log, query, after, before, limit, backwards)) for log in (self.reference, self.log)]
        assert contents(found[0]) == contents(found[1])

    @rule(query=queries | st.just(EventQuery.all()), place=places, end=st.none() | places, limit=st.integers(1, 12),
          known=st.sampled_from([True, True, False]))  # fmt: skip
    def scan(self, query: EventQuery, place: int, end: int | None, limit: int, known: bool) -> None:
        head = self.run(self.reference.head())
        position, last = max(place + head // 2, 0), None if end is None else max(end + head, 0)
        mark = (self.run(self.reference.mark(position)) if position else None) or Mark(position)
        after = mark if known else Mark(position, self._next_id().bytes)
        found = [self.run(_scan(log, query, after, last, limit)) for log in (self.reference, self.log)]
        assert found[0] == found[1]

    @rule(stream_id=st.sampled_from(STREAMS[1:]), after=st.integers(0, 5), limit=st.integers(1, 12))
    def read_stream(self, stream_id: str, after: int, limit: int) -> None:
        found = [self.run(_read_stream(log, stream_id, after, limit)) for log in (self.reference, self.log)]
        assert contents(found[0]) == contents(found[1])

    @rule(pick=st.integers(0, 99))
    def find_command(self, pick: int) -> None:
        if self.commands:
            wanted = self.commands[pick % len(self.commands)].command_id
            found = [self.run(log.find_command(wanted)) for log in (self.reference, self.log)]
            known = [one and (one[0], one[1].first, one[1].last, one[1].version) for one in found]
            assert known[0] == known[1]

    @invariant()
    def the_heads_agree(self) -> None:
        assert self.run(self.log.head()) == self.run(self.reference.head())

    @invariant()
    def the_logs_agree(self) -> None:
        whole = [self.run(_read(log, EventQuery.all(), 0, None, 10_000, False)) for log in (self.reference, self.log)]
        assert contents(whole[0]) == contents(whole[1])

    async def _made(self) -> EventLog:
        return await type(self).make_log()

    def _compare_appends(self, appends: list[Append]) -> None:
        async def at_one_moment(log: EventLog) -> list[Appended | Rejected | BaseException]:
            return await asyncio.gather(*map(log.append, appends), return_exceptions=True)

        expected, found = self.run(at_one_moment(self.reference)), self.run(at_one_moment(self.log))
        for append, ours, theirs in zip(appends, expected, found, strict=True):
            exact = len(append.expected) + bool(append.condition) < 2
            assert comparable(ours, exact=exact) == comparable(theirs, exact=exact), append
            if isinstance(ours, Appended) and not ours.repeated:
                self.earlier.append(append)

    def _append(self, chosen: list[Any], expected: Any, condition: Any, lot: int) -> Append:
        events = tuple(self._event(body) for body in chosen)
        command = None
        if lot < 3:
            command = CommandRecord(self._next_id().bytes, b"#" * 32, b'{"lot":%d}' % lot)
            self.commands.append(command)
        return Append(events, self._expected(expected), self._condition(condition), command)

    def _event(self, body: Any, event_id: UUID | None = None) -> NewEvent:
        stream_id, names, kind, text = body
        return new_event(stream_id, *names, kind=kind, text=text, event_id=event_id or self._next_id())

    def _expected(self, chosen: dict[str, Any]) -> tuple[tuple[str, ExpectedVersion], ...]:
        expected: list[tuple[str, ExpectedVersion]] = []
        for stream_id, version in chosen.items():
            if isinstance(version, tuple):  # near the true version, mostly hitting it
                now = len(self.run(self.reference.read_stream(stream_id, limit=10_000)))
                version = max(now + (version[0] if abs(version[0]) > 1 else 0), 0)
            expected.append((stream_id, version))
        return tuple(expected)

    def _condition(self, chosen: Any) -> AppendCondition | None:
        if chosen is None:
            return None
        query, after = chosen
        if isinstance(after, tuple):
            after = max(self.run(self.reference.head()) + after[0], 0)
        return AppendCondition(query, after)

    def _next_id(self) -> UUID:
        self.serial += 1
        return UUID(int=self.serial)


async def _read(
    log: EventLog, query: EventQuery, after: int, before: int | None, limit: int, backwards: bool
) -> Sequence[StoredEvent]:
    return await log.read(query, after=after, before=before, limit=limit, backwards=backwards)


async def _scan(log: EventLog, query: EventQuery, after: Mark, end: int | None, limit: int) -> object:
    """Return all that two logs have in common; each has an id of its own, which stands at position 0."""
    try:
        rows, covered = await log.scan(query, after=after, end=end, limit=limit)
    except HistoryChangedError as error:
        return error.read, error.found and error.found.position, error.head
    return contents(rows), covered if covered.position else covered.position


async def _read_stream(log: EventLog, stream_id: str, after: int, limit: int) -> Sequence[StoredEvent]:
    return await log.read_stream(stream_id, after=after, limit=limit)


def event_log_machine(make_log: Callable[[], Awaitable[EventLog]]) -> type[EventLogMachine]:
    """Return a state machine class that compares the logs of `make_log` with the reference.

    `TestMyLog = event_log_machine(make_log).TestCase` lets pytest run it; its `settings` say how long.

    Args:
        make_log: gives an opened, empty log each time; it is awaited, and the log is used and closed, in an event
            loop of the machine's own.
    """
    return type("EventLogMachine", (EventLogMachine,), {"make_log": staticmethod(make_log)})
