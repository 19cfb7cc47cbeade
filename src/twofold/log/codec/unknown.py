"""Events that this code does not know: as a reader of all events gets them, and what others do about them."""

from __future__ import annotations

import typing
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from twofold.errors import CorruptEventError, NewerSchemaError, UnknownEventTypeError, UnreadableEventError
from twofold.log.codec.event_types import EventTypes
from twofold.messages.event import RawEvent, RecordedEvent
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import StoredEvent, is_intact
from twofold.slices import Slices

Decode = Callable[[Sequence[StoredEvent]], list[RecordedEvent[Any]]]
"""Return rows as events, in order, several or none where upcasters say so; raises on the first that cannot be read."""


class RowDecoder(NamedTuple):
    """A `Decode` that needs the keys of persons."""

    decode: Decode
    fetch_keys: Callable[[Sequence[StoredEvent]], Awaitable[None]]
    """To be awaited first: what decodes is not asynchronous, and would block the event loop until it has the keys."""

    async def events_of(self, rows: Sequence[StoredEvent]) -> list[RecordedEvent[Any]]:
        """Return rows as events, once their keys are at hand."""
        await self.fetch_keys(rows)
        return self.decode(rows)


class Decoding(Slices[StoredEvent, RecordedEvent[Any]]):
    """Decodes in slices, as an upcaster may take long, and has the keys of each slice at hand.

    Args:
        decode: makes events of rows.
    """

    def __init__(self, decode: RowDecoder) -> None:
        super().__init__(decode.decode)
        self._fetch_keys = decode.fetch_keys

    async def _slice(self, items: Sequence[StoredEvent]) -> Sequence[RecordedEvent[Any]]:
        await self._fetch_keys(items)
        return await super()._slice(items)


Unknown = Literal["raise", "raw", "skip"]
"""What a reader does about an event that this code does not know.

`raise`, the default, hands out what comes before it, and then the error: nothing is missed. `raw` hands out a
`RawEvent` in its place, also where the schema version is newer than the code, or the payload does not fit the class.
`skip` leaves out events of types that are not registered; the other two cases raise, since those types concern the
reader.
"""


def decoder(events: EventTypes, unknown: Unknown = "raise", query: EventQuery | None = None) -> RowDecoder:
    """Return what makes events of rows, with a policy for those that this code does not know.

    Args:
        events: the classes.
        unknown: the policy.
        query: what has selected the rows: of what upcasters make of them, only the events that it asks for are given.

    Raises:
        ValueError: there is no such policy.
    """
    if not isinstance(unknown, str) or unknown not in typing.get_args(Unknown):
        raise ValueError(f"unknown={unknown!r} is none; write one of: {', '.join(map(repr, typing.get_args(Unknown)))}")
    wanted = events.decode if query is None or query.is_all else partial(events.decode, query=query)
    if unknown == "raise":
        return RowDecoder(wanted, events._fetch_keys)
    instead = _as_raw if unknown == "raw" else _left_out

    def decode(rows: Sequence[StoredEvent]) -> list[RecordedEvent[Any]]:
        try:
            return wanted(rows)
        except (UnknownEventTypeError, NewerSchemaError, UnreadableEventError):
            return [recorded for row in rows for recorded in _one(wanted, row, instead)]

    return RowDecoder(decode, events._fetch_keys)


def raw_events(rows: Sequence[StoredEvent]) -> list[RecordedEvent[Any]]:
    """Return all rows as raw events, verified.

    Raises:
        CorruptEventError: a row does not match its checksum.
    """
    damaged = next((row.position for row in rows if not is_intact(row)), None)
    if damaged is not None:
        raise CorruptEventError(damaged)
    return [RecordedEvent(RawEvent(row.type, row.schema_version, row.payload), row) for row in rows]


class Readable(NamedTuple):
    """The events that rows are, up to the first that cannot be read."""

    events: Sequence[RecordedEvent[Any]]
    failed: StoredEvent | None = None
    """The row that cannot be read."""
    failure: Exception | None = None
    """Why."""


async def readable(decoding: Decoding, rows: Sequence[StoredEvent]) -> Readable:
    """Return rows as events; those before one that cannot be read come without it."""
    try:
        return Readable(await decoding.of(rows))
    except Exception:  # of whatever kind: which row it was, and why, is found out one by one
        found: list[RecordedEvent[Any]] = []
        for row in rows:
            try:
                found += await decoding.of([row])
            except Exception as error:
                return Readable(found, row, error)
        raise AssertionError("the second reading differs from the first") from None


async def no_keys(rows: Sequence[StoredEvent]) -> None:
    """Fetch no keys: for those who read no personal fields."""


raw_decoder = RowDecoder(raw_events, no_keys)
"""Makes raw events of all rows."""

_Instead = Callable[[StoredEvent, Exception], list[RecordedEvent[Any]]]


def _one(decode: Decode, row: StoredEvent, instead: _Instead) -> list[RecordedEvent[Any]]:
    try:
        return decode([row])
    except (UnknownEventTypeError, NewerSchemaError, UnreadableEventError) as error:
        return instead(row, error)


def _as_raw(row: StoredEvent, _: Exception) -> list[RecordedEvent[Any]]:
    return raw_events([row])


def _left_out(_: StoredEvent, error: Exception) -> list[RecordedEvent[Any]]:
    if not isinstance(error, UnknownEventTypeError):
        raise error
    return []
