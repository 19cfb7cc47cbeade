"""What became of the events of a log on their way into another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from twofold.log.moving.plain_event import PlainEvent, SourceEvent, plain_event_of
from twofold.messages.stored_event import StoredEvent


class TypeReport(msgspec.Struct, kw_only=True):
    """What became of the events of one type of the source."""

    read: int = 0
    written: int = 0
    """Events that they became."""
    dropped: int = 0
    """Those that became none."""
    split: int = 0
    """Those that became several."""
    changed: int = 0
    """Those that became one other."""
    into: dict[str, int] = {}
    """Events that they became, by their types."""


class Example(NamedTuple):
    """An event that does not stay what it was."""

    position: int
    before: PlainEvent
    after: Sequence[PlainEvent]


class Moved(NamedTuple):
    """Events that were moved, and compared with what the target then held."""

    read: int
    """Events of the source."""
    written: int
    """Events that they became."""
    already: int
    """Those of them that the target held before, from a run that was interrupted or came earlier."""
    commands: int
    """Records of commands in the target, with which a repeated command is known."""
    forgotten: int
    """Records of commands that stay behind, as all events of theirs were dropped."""
    digest: str
    """Over all events of the target; empty if nothing was written."""
    types: Mapping[str, TypeReport]
    """What became of the events, by their types in the source."""
    examples: Sequence[Example]
    """The first events of each type that do not stay what they were."""


class Report:
    """Counts what becomes of events.

    Args:
        examples: kept of each type, at most.
    """

    def __init__(self, examples: int) -> None:
        self.types: dict[str, TypeReport] = {}
        self.examples: list[Example] = []
        self.changed_types: set[str] = set()
        """Types of the target, some of whose events are not what stood in the source."""
        self._most = examples
        self._examples_of: dict[str, int] = {}

    @property
    def read(self) -> int:
        """Events of the source."""
        return sum(each.read for each in self.types.values())

    def add(self, source: SourceEvent, rows: Sequence[StoredEvent]) -> None:
        """Count an event.

        Args:
            source: the event.
            rows: what it became, at the place of the source still.
        """
        is_same = list(rows) == [source.stored]
        of = self.types.setdefault(source.stored.type, TypeReport())
        of.read += 1
        of.written += len(rows)
        of.dropped += not rows
        of.split += len(rows) > 1
        of.changed += len(rows) == 1 and not is_same
        for each in rows:
            of.into[each.type] = of.into.get(each.type, 0) + 1
        if not is_same:
            self.changed_types.update(each.type for each in rows)
            self._keep(source, rows)

    def _keep(self, source: SourceEvent, rows: Sequence[StoredEvent]) -> None:
        kept = self._examples_of.get(source.stored.type, 0)
        if kept < self._most:
            self._examples_of[source.stored.type] = kept + 1
            before, *after = map(plain_event_of, (source.stored, *rows))  # the event itself may have been changed
            self.examples.append(Example(source.position, before, after))
