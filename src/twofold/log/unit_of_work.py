"""What one command writes: staged while its handler runs, and appended in one step when that returns.

1. Each attempt to carry a command out has a `UnitOfWork` of its own, open as long as the handler runs.
2. What the handler appends is staged; what it decides on is put under the append condition.
3. A command within a command has a nested unit, which is merged into the outer one when its handler returns.
4. The outermost unit becomes one append. If another append came first, `CommandReads` takes in the events that were in
   the way, and the next attempt decides on them without reading again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any
from uuid import UUID, uuid5

import msgspec

from twofold.errors import ConflictError, StreamClosedError, UnitOfWorkError
from twofold.messages.context import Context, current_context, enter_context, leave_context, metadata_in
from twofold.messages.endings import StreamClosed
from twofold.messages.event import Metadata, RawEvent, RecordedEvent
from twofold.messages.event_query import AppendCondition, EventQuery
from twofold.messages.ids import event_ids_of, uuid7
from twofold.messages.stored_event import NewEvent, StoredEvent, record
from twofold.messages.stream import ANY, STREAM_EXISTS, ExpectedVersion
from twofold.ports.event_log import Append, CommandRecord


class StreamHistory(msgspec.Struct, frozen=True):
    """The stored events of a stream, or those behind a state of it."""

    owner: Hashable
    """What has folded the state."""
    events: list[RecordedEvent[Any]]
    last: StoredEvent | None
    """The last event of the stream; None: it is empty."""
    state: Callable[[], Any] | None = None
    """Makes the state to which the events before have led; None: the events are all."""
    looked: object = None
    """What the look for a stored snapshot has found, for the next one who stores it."""
    stored_at: int = 0
    """The version of the newest snapshot that is known."""
    is_partial: bool = False
    """Whether events that the owner ignores are left out."""

    @property
    def version(self) -> int:
        """The version of the stream."""
        return self.last.version if self.last is not None else 0

    def with_newer(self, events: Sequence[RecordedEvent[Any]]) -> StreamHistory:
        """Return the history with some more events."""
        last = events[-1].stored if events else self.last
        return msgspec.structs.replace(self, events=self.events + list(events), last=last)


class DecisionHistory(msgspec.Struct, frozen=True):
    """The stored events that match a query, or those behind a state of a fold."""

    events: list[RecordedEvent[Any]]
    owner: bytes = b""
    """The fingerprint of what has folded the state; empty: there is none."""
    state: Callable[[], Any] | None = None
    """Makes the state to which the events before have led; None: the events are all."""

    def with_newer(self, events: Sequence[RecordedEvent[Any]]) -> DecisionHistory:
        """Return the history with some more events."""
        return msgspec.structs.replace(self, events=self.events + list(events))


class CommandReads:
    """What a command has read, through all attempts to carry it out."""

    def __init__(self) -> None:
        self.histories: dict[str, StreamHistory] = {}
        self.decisions: dict[tuple[EventQuery, bytes], DecisionHistory] = {}
        """The stored events that match queries, up to `position`; by the query and the owner of the history."""
        self.position: int | None = None
        """All decisions of a command are made as of one position, so that one condition covers them all."""
        self.informed = False
        """Whether the last conflict was on something that the handler had read."""

    def as_of(self, head: int) -> int:
        """Return the position as of which decisions are made: the head that the first of them has read."""
        if self.position is None:
            self.position = head
        return self.position

    def learn(self, conflict: ConflictError, judged: AppendCondition | None) -> Hashable:
        """Add the events that were in the way to what was read; forget what only reading can bring up to date.

        Args:
            conflict: why the append was refused.
            judged: the condition of that append.

        Returns:
            What was contested: the stream, or the item of the condition's query.
        """
        stream_id = conflict.stored_stream
        self.informed = stream_id in self.histories or (not stream_id and bool(self.decisions))
        is_known = not any(isinstance(each.event, RawEvent) for each in conflict.conflicts)
        if (stored := self.histories.pop(stream_id, None)) is not None:
            stored = stored.with_newer(conflict.conflicts)
            if stored.version == conflict.version and is_known:
                self.histories[stream_id] = stored
        if stream_id or judged is None or not conflict.conflicts or not is_known:
            self.decisions, self.position = {}, None
            return stream_id
        self._learn_decisions(conflict, judged)
        first = conflict.conflicts[0]
        return next((item for item in judged.fail_if.items if item.matches(first.type, first.stored_tags)), "")

    def _learn_decisions(self, conflict: ConflictError, judged: AppendCondition) -> None:
        """Bring the decisions up to date that the condition covered, if all that matches it was in the way."""
        newer, is_complete = conflict.conflicts, conflict.is_complete and judged.after == self.position
        covered = set(judged.fail_if.items) if is_complete else set()
        self.decisions = {
            (query, owner): history.with_newer([each for each in newer if query.wants(each.type, each.stored_tags)])
            for (query, owner), history in self.decisions.items()
            if covered.issuperset(query.items)
        }
        self.position = newer[-1].position if self.decisions else None


class _Staged:
    """What the handler of a command has appended and decided on."""

    __slots__ = ("decided", "events", "expected", "objects", "streams")

    def __init__(self) -> None:
        self.events: list[NewEvent] = []
        self.objects: list[Any] = []
        self.decided: list[EventQuery] = []
        self.streams: dict[str, list[Any]] = {}
        self.expected: dict[str, ExpectedVersion] = {}


class UnitOfWork:
    """The writes of one command in one attempt to carry it out.

    A handler that appends nothing costs next to nothing: what only events need is made with the first of them.

    Args:
        id: of the command, as the log records it; None if it has none, and gets a new one when it stores something.
        command_id: of the command, as its sender knows it; by default the same.
        reads: what the command has read, in earlier attempts.
        outer: the unit of the command within whose handler this one is carried out.
    """

    condition: AppendCondition | None = None
    """What must hold for the append. Nested units put their conditions on the outermost one."""
    is_open = False
    """Whether the handler still runs."""
    _metadata: Metadata | None = None
    _begun_at = 0
    _identified = 0
    _nested = 0
    _staged: _Staged | None = None

    def __init__(
        self,
        id: UUID | None,
        command_id: UUID | None = None,
        reads: CommandReads | None = None,
        outer: UnitOfWork | None = None,
    ) -> None:
        self._id = id
        self._command_id = command_id
        self._reads = reads
        self._outer = outer
        if outer is not None:
            self._begun_at = len(outer.events)

    def renewed(self) -> UnitOfWork:
        """Return a unit for another attempt to carry out the same command."""
        return UnitOfWork(self.id, self.command_id, self.reads, self._outer)

    @property
    def id(self) -> UUID:
        """Of the command, as the log records it. Those of its events follow from it: a repeat makes the same ones."""
        if self._id is None:
            self._id = uuid7()
        return self._id

    @property
    def command_id(self) -> UUID:
        """Of the command, as its sender knows it."""
        return self.id if self._command_id is None else self._command_id

    @property
    def reads(self) -> CommandReads:
        """What the command has read, in this attempt and earlier ones."""
        if self._reads is None:
            self._reads = CommandReads()
        return self._reads

    @property
    def metadata(self) -> Metadata:
        """What the events get that the handler appends."""
        if self._metadata is None:
            self._metadata = _caused_by_command(metadata_in(self._around), self.command_id)
        return self._metadata

    @property
    def tenant(self) -> str | None:
        """On whose behalf the handler runs."""
        return self.metadata.tenant

    def begin(self, around: Context) -> None:
        """Begin to run the handler, in a context: what it appends is staged here, and gets this unit's metadata."""
        self._around = around
        self._token = enter_context(None, around.session, self)
        self.is_open = True

    def end(self) -> None:
        """End to run the handler, in whichever way it went."""
        self.is_open = False
        leave_context(self._token)

    def refuse_other_tenant(self, tenant: str) -> None:
        """Refuse a write on behalf of another tenant than the command is carried out for.

        Raises:
            UnitOfWorkError: it is one.
        """
        if tenant != self._root.tenant:
            raise UnitOfWorkError(
                f"a command that is carried out for the tenant {self._root.tenant!r} cannot write for {tenant!r}; it "
                f"is one append of one tenant: let a process, or the code around the command, send another command"
            )

    def nested_id(self) -> UUID:
        """Return the id of the next command within this one. It follows from this one's id."""
        self._nested += 1
        return uuid5(self.id, f"command {self._nested}")

    def event_ids(self, count: int) -> list[bytes]:
        """Return the next event ids."""
        first, self._identified = self._identified, self._identified + count
        return event_ids_of(self.id, range(first, first + count))

    def staged(self, stream_id: str) -> list[Any]:
        """Return the events that are staged for a stream, by the outer commands and this one."""
        own = self._own.streams.get(stream_id, [])
        return self._outer.staged(stream_id) + own if self._outer else own

    def matching(self, query: EventQuery) -> list[RecordedEvent[Any]]:
        """Return the events that the outer commands and this one have staged, as far as a query matches them.

        They have no position and no version yet, and are all recorded now.
        """
        now = time.time_ns() // 1000
        own = [
            RecordedEvent(event, record(new, 0, 0, now))
            for new, event in zip(self._own.events, self._own.objects, strict=True)
            if query.wants(new.type, new.tag_names)
        ]
        return self._outer.matching(query) + own if self._outer else own

    def stage(
        self,
        encoded: Sequence[NewEvent],
        events: Sequence[object],
        expected: ExpectedVersion | None,
        condition: AppendCondition | None,
    ) -> None:
        """Add events, of one stream or (without an expected version) of none, to what will be appended.

        Raises:
            ConflictError: what is staged for the stream contradicts the expected version.
            StreamClosedError: what is staged closes the stream.
            ValueError: the condition cannot be put under one with those that there are.
        """
        stream_id = encoded[0].stream_id
        agreed = None if expected is None else self._agree(stream_id, expected)
        if condition is not None:
            self.enrol(condition)
        own = self._own
        own.events += encoded
        own.objects += events
        if agreed is not None:
            own.expected[stream_id] = agreed
            own.streams.setdefault(stream_id, []).extend(events)

    def enrol(self, condition: AppendCondition) -> None:
        """Let the whole append depend on a condition.

        Raises:
            ValueError: another condition is of another position.
        """
        self._own.decided.append(condition.fail_if)
        root = self._root
        known = root.condition
        if known is None:
            root.condition = condition
        elif known.after != condition.after:
            raise ValueError(
                f"a command is appended under one condition, and one after {known.after} cannot be joined with one "
                f"after {condition.after}; let store.decide(...) read both, or combine(...) the models into one"
            )
        elif known != condition:
            root.condition = AppendCondition(known.fail_if | condition.fail_if, known.after)

    @property
    def _root(self) -> UnitOfWork:
        """The unit of the outermost command."""
        return self if self._outer is None else self._outer._root

    def merge(self, nested: UnitOfWork) -> None:
        """Take over what a command within this one has staged.

        Raises:
            ConflictError: what it has decided on, or read of a stream, is not what is staged here by now; nothing was
                taken over.
            StreamClosedError: this one has closed a stream to which it appends.
            UnitOfWorkError: the handler of this command has returned.
        """
        if not self.is_open:
            raise ended()
        own, theirs = self._own, nested._own
        for event in own.events[nested._begun_at :]:
            if any(query.matches(event.type, event.tag_names) for query in theirs.decided):
                raise ConflictError(f"another command within this one has appended a {event.type} after the decision")
        agreed = {stream: self._agree(stream, expected) for stream, expected in theirs.expected.items()}
        own.expected |= agreed
        own.events += theirs.events
        own.objects += theirs.objects
        own.decided += theirs.decided
        for stream_id, events in theirs.streams.items():
            own.streams.setdefault(stream_id, []).extend(events)

    @property
    def events(self) -> Sequence[NewEvent]:
        """All events that are staged, in their order."""
        return () if self._staged is None else self._staged.events

    def append(self, command: CommandRecord) -> Append:
        """Return all that was staged as one append."""
        expected = tuple((stream, version) for stream, version in self._own.expected.items() if version is not ANY)
        return Append(tuple(self._own.events), expected, self.condition, command)

    @property
    def _own(self) -> _Staged:
        """What is staged here, made when it is first asked for."""
        if self._staged is None:
            self._staged = _Staged()
        return self._staged

    def _agree(self, stream_id: str, expected: ExpectedVersion) -> ExpectedVersion:
        """Return what is expected of a stream before the first event that is staged for it here.

        Raises:
            ConflictError: two expectations contradict each other.
            StreamClosedError: what is staged closes the stream.
        """
        staged = len(events := self._own.streams.get(stream_id, []))
        if not staged:
            return expected
        if type(last := events[-1]) is StreamClosed:
            raise StreamClosedError(last.stream_id, reason=last.reason, by=last.by, successor=last.successor)
        known = self._own.expected[stream_id]
        if not isinstance(expected, int):  # events are staged, so that the stream will exist
            return known
        before = expected - staged
        if before == known or (not isinstance(known, int) and before >= _LEAST[known]):
            return before
        version = staged + (known if isinstance(known, int) else _LEAST[known])
        or_later = "" if isinstance(known, int) else " or later"
        raise ConflictError(
            f"stream {stream_id!r} is at version {version}{or_later} within this command, expected {expected}; load "
            f"what the command has saved before",
            stream_id=stream_id,
            version=version,
        )


def current_unit() -> UnitOfWork | None:
    """Return the unit of work of the command that is being handled here; None if there is none, or it has ended."""
    unit: UnitOfWork | None = current_context().unit
    return unit if unit is not None and unit.is_open else None


def writing_unit() -> UnitOfWork | None:
    """Return the unit of work to which a write belongs, None if it is a write of its own.

    Raises:
        UnitOfWorkError: the write belongs to a command whose handler has returned.
    """
    unit: UnitOfWork | None = current_context().unit
    if unit is not None and not unit.is_open:
        raise ended()
    return unit


def ended() -> UnitOfWorkError:
    """Return the error for a write that comes too late."""
    return UnitOfWorkError(
        "the command's handler has returned, and its events are stored without this write; await what the handler "
        "starts before it returns, or start the task with `context=contextvars.Context()` to let it write on its own"
    )


def _caused_by_command(behalf: Metadata, command_id: UUID) -> Metadata:
    if behalf is _ON_NO_BEHALF:
        return Metadata(correlation_id=command_id, causation_id=command_id, command_id=command_id)
    return msgspec.structs.replace(
        behalf,
        command_id=command_id,
        correlation_id=behalf.correlation_id or command_id,
        causation_id=behalf.command_id or behalf.causation_id or command_id,
    )


_ON_NO_BEHALF = Context().metadata
_LEAST = {ANY: 0, STREAM_EXISTS: 1}
"""The least version of a stream that agrees with what is no exact version."""
