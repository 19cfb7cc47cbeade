"""What a command has read, in all attempts to carry it out.

An attempt that comes after a conflict does not read again what the earlier ones have read: it takes in the events that
were in the way.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import msgspec

from twofold.errors import ConflictError
from twofold.messages.event import RawEvent, RecordedEvent
from twofold.messages.event_query import AppendCondition, EventQuery
from twofold.messages.stored_event import StoredEvent
from twofold.ports.event_log import MAX_CONFLICTS


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
        self._learn_decisions(conflict.conflicts, judged)
        first = conflict.conflicts[0]
        return next((item for item in judged.fail_if.items if item.matches(first.type, first.stored_tags)), "")

    def _learn_decisions(self, newer: Sequence[RecordedEvent[Any]], judged: AppendCondition) -> None:
        """Bring the decisions up to date that the condition covered, if `newer` is all that matches it."""
        is_complete = len(newer) < MAX_CONFLICTS and judged.after == self.position
        covered = set(judged.fail_if.items) if is_complete else set()
        self.decisions = {
            (query, owner): history.with_newer([each for each in newer if query.matches(each.type, each.stored_tags)])
            for (query, owner), history in self.decisions.items()
            if covered.issuperset(query.items)
        }
        self.position = newer[-1].position if self.decisions else None
