"""Events to try a log with, and builders of the rows that adapters are given."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from twofold.log.codec.event_types import EventTypes
from twofold.messages.event import Event, Tag, event_type
from twofold.messages.event_query import AppendCondition, EventQuery, QueryItem
from twofold.messages.ids import uuid7
from twofold.messages.stored_event import NewEvent
from twofold.messages.stream import ExpectedVersion
from twofold.ports.event_log import Append, Appended, CommandRecord


@event_type("Noted")
@dataclass(frozen=True, kw_only=True)
class Noted(Event):
    """A sample event; each of its topics is a tag."""

    text: str = ""
    amount: Decimal = Decimal(0)
    topics: Annotated[tuple[str, ...], Tag("topic")] = ()


@event_type("Revised")
@dataclass(frozen=True, kw_only=True)
class Revised(Noted):
    """A second type of the same shape."""


@event_type("Withdrawn")
@dataclass(frozen=True, kw_only=True)
class Withdrawn(Noted):
    """A third type of the same shape."""


EVENT_TYPES = EventTypes()
EVENT_TYPES.register(Noted, Revised, Withdrawn)


def new_event(
    stream_id: str = "",
    *topics: str,
    kind: type[Noted] = Noted,
    text: str = "",
    amount: Decimal = Decimal(0),
    event_id: UUID | None = None,
    metadata: bytes = b"{}",
) -> NewEvent:
    """Return an encoded sample event, by default with a new id; `topics` become the tags `topic:…`."""
    event = kind(text=text, amount=amount, topics=topics)
    return EVENT_TYPES.encode(event, event_id or uuid7(), stream_id, stream_id.partition("-")[0], metadata)


def append_of(
    *events: NewEvent,
    expected: dict[str, ExpectedVersion] | None = None,
    fail_if: EventQuery | None = None,
    after: int | None = None,
    command: CommandRecord | None = None,
) -> Append:
    """Return one decision; `fail_if` and `after` make its condition."""
    condition = AppendCondition(fail_if, after) if fail_if else None
    return Append(events, tuple((expected or {}).items()), condition, command)


def new_command(content_hash: bytes = b"#" * 32, result: bytes = b'{"done":true}') -> CommandRecord:
    """Return the record of a command with a new id."""
    return CommandRecord(uuid7().bytes, content_hash, result, "Do")


def topic(*names: str, kinds: tuple[type[Noted], ...] = ()) -> EventQuery:
    """Match sample events that have all of the topics and one of the types, if any are named."""
    return EventQuery((QueryItem(tuple(kind.__name__ for kind in kinds), tuple(f"topic:{name}" for name in names)),))


def span(outcome: object) -> tuple[int, int]:
    """Return the first and the last position of an append that this call stored."""
    if not isinstance(outcome, Appended) or outcome.repeated:
        raise AssertionError(f"expected an append that was stored now, got {outcome!r}")
    return outcome.first, outcome.last


def repeated_span(outcome: object) -> tuple[int, int]:
    """Return the first and the last position of an append that an earlier call stored."""
    if not isinstance(outcome, Appended) or not outcome.repeated:
        raise AssertionError(f"expected a repeat, got {outcome!r}")
    return outcome.first, outcome.last
