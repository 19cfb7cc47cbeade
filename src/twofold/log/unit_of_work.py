"""What one command is about to write: staged while its handler runs, appended at once when it returns."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID, uuid5

from twofold.errors import ConflictError
from twofold.messages.event import RecordedEvent
from twofold.messages.event_query import AppendCondition, EventQuery
from twofold.messages.receipt import Receipt
from twofold.messages.stream import ANY, ExpectedVersion
from twofold.ports.event_log import MAX_CONFLICTS, Append, CommandRecord, NewEvent

_current: ContextVar[UnitOfWork | None] = ContextVar("twofold_unit_of_work", default=None)


class History:
    """The stored events of a stream, and those that are staged behind them."""

    def __init__(self, stored: list[RecordedEvent[Any]], staged: list[Any]) -> None:
        self.stored = stored
        self.staged = staged

    @property
    def events(self) -> list[Any]:
        """All events, the staged ones last."""
        return [recorded.event for recorded in self.stored] + self.staged


class UnitOfWork:
    """The writes of one command, through all attempts to carry it out.

    What an attempt has read is kept. When somebody else wrote first, the conflicting events are added to it, and the
    next attempt decides on that without reading again.
    """

    def __init__(self, command_id: UUID) -> None:
        self.command_id = command_id
        self.histories: dict[str, list[RecordedEvent[Any]]] = {}
        self.decisions: dict[EventQuery, tuple[list[RecordedEvent[Any]], int]] = {}
        self.receipt: Receipt[None] | None = None
        """The last append that the handler did by itself, past the unit of work."""
        self.informed = False
        """Whether the last conflict was on something that the handler had read."""
        self._encoded: list[NewEvent] = []
        self._staged: dict[str, list[Any]] = {}
        self._expected: dict[str, ExpectedVersion] = {}
        self._condition: AppendCondition | None = None
        self._judged: AppendCondition | None = None
        self._identified = 0
        self._open = False

    @staticmethod
    def current() -> UnitOfWork | None:
        """Return the unit of work of the command that is being handled here, if there is one."""
        return _current.get()

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Run a handler within: what it stages belongs to this unit of work."""
        self._begin()
        token = _current.set(self)
        try:
            yield
        finally:
            self._open = False
            _current.reset(token)

    def history(self, stream_id: str) -> History | None:
        """Return a stream as it was read before, and what is staged for it; None if it was not read."""
        stored = self.histories.get(stream_id)
        return None if stored is None else History(stored, self._staged.get(stream_id, []))

    def event_ids(self, count: int) -> list[UUID]:
        """Return the next event ids; they follow from the command's id, so that a retry gets the same ones."""
        first, self._identified = self._identified, self._identified + count
        return [uuid5(self.command_id, str(index)) for index in range(first, first + count)]

    def stage(
        self,
        encoded: Sequence[NewEvent],
        events: Sequence[object],
        expected_version: ExpectedVersion,
        condition: AppendCondition | None,
    ) -> None:
        """Add events to what will be appended.

        Raises:
            ValueError: a second, different condition is staged.
            RuntimeError: the handler has returned already.
        """
        if not self._open:
            raise RuntimeError("the command's handler has returned; await what it starts before it returns")
        if condition is not None and self._condition not in (None, condition):
            raise ValueError("a command is appended under one condition; combine(...) its decision models into one")
        self._condition = condition or self._condition
        self._encoded += encoded
        stream_id = encoded[0].stream_id
        if stream_id:
            self._expected.setdefault(stream_id, expected_version)  # what is staged later builds on what is staged now
            self._staged.setdefault(stream_id, []).extend(events)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was staged."""
        return not self._encoded

    def append(self, record: CommandRecord) -> Append:
        """Return all that was staged as one append."""
        self._judged = self._condition
        expected = tuple((stream, version) for stream, version in self._expected.items() if version is not ANY)
        return Append(tuple(self._encoded), expected, self._condition, record)

    def learn(self, conflict: ConflictError) -> Hashable:
        """Add what somebody else wrote to what was read; forget what can only be brought up to date by reading.

        Returns what was contested: the stream, or the item of the condition's query.
        """
        contested = self._contested(conflict)
        self.informed = conflict.stream_id in self.histories or (not conflict.stream_id and bool(self.decisions))
        if (stored := self.histories.pop(conflict.stream_id, None)) is not None:
            stored = stored + list(conflict.conflicts)
            if len(stored) == conflict.version:
                self.histories[conflict.stream_id] = stored
        complete = not conflict.stream_id and len(conflict.conflicts) < MAX_CONFLICTS
        for query, (events, after) in list(self.decisions.items()):
            if complete and self._judged == AppendCondition(query, after):
                self.decisions[query] = (events + list(conflict.conflicts), conflict.conflicts[-1].position)
            else:
                del self.decisions[query]
        return contested

    def _contested(self, conflict: ConflictError) -> Hashable:
        if conflict.stream_id or self._judged is None or not conflict.conflicts:
            return conflict.stream_id
        first = conflict.conflicts[0]
        return next((item for item in self._judged.fail_if.items if item.matches(first.type, first.tags)), "")

    def _begin(self) -> None:
        self._encoded, self._staged, self._expected, self._condition = [], {}, {}, None
        self._identified, self.receipt, self._judged, self._open = 0, None, None, True
