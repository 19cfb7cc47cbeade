"""Events as plain data, without classes: what a transform takes, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from twofold.log.codec.encrypt import sealed_of
from twofold.messages.event import EPOCH, Metadata
from twofold.messages.stored_event import StoredEvent
from twofold.messages.tenant_names import shown_stream, shown_tags, tenant_of_tags

_decode_data = msgspec.json.Decoder(dict[str, Any]).decode
_decode_metadata = msgspec.json.Decoder(Metadata).decode
_decode_tags = msgspec.json.Decoder(tuple[str, ...]).decode
encode = msgspec.json.Encoder(decimal_format="string").encode
"""Plain values as JSON."""


@dataclass(frozen=True, kw_only=True)
class PlainEvent:
    """An event as plain data: what a transform makes. `dataclasses.replace` makes another one of it."""

    type: str
    """The stored name of its type."""
    data: Mapping[str, Any]
    """Its fields, as JSON has them; personal ones hold their placeholders."""
    stream_id: str = ""
    """Empty, as the stream's type, if it belongs to no stream."""
    stream_type: str = ""
    schema_version: int = 1
    tags: tuple[str, ...] = ()
    """Such as `customer:c1`."""
    metadata: Metadata = field(default_factory=Metadata)
    tenant: str = ""
    """Whose it is, in an application with tenants."""
    personal: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    """The values of its personal fields, by the ids of the keys with which they are encrypted; none of persons who are
    forgotten, and none where the keys are not known. Each stands under the name of its field in `data`."""


@dataclass(frozen=True, kw_only=True)
class SourceEvent:
    """An event with its place in the store that it comes from: what a transform gets."""

    event: PlainEvent
    """What it becomes if nothing is changed."""
    stored: StoredEvent
    columns: Mapping[str, Any] = field(default_factory=dict)
    """The columns of the row, of a store that is not Twofold's; `event` is made of them."""

    @property
    def position(self) -> int:
        """Its position in the source."""
        return self.stored.position

    @property
    def version(self) -> int:
        """Its version in its stream of the source; 0 without one."""
        return self.stored.version

    @property
    def event_id(self) -> UUID:
        """Its id, which the first event keeps that it becomes."""
        return UUID(bytes=self.stored.event_id)

    @property
    def recorded_at(self) -> datetime:
        """When it was recorded, aware, in UTC; all events keep it that it becomes."""
        return EPOCH + timedelta(microseconds=self.stored.recorded_at)

    def __str__(self) -> str:
        return f"event {self.position} ({self.event.type}, {self.event_id})"


Transform = Callable[[SourceEvent], Iterable[PlainEvent]]
"""Returns the events that an event becomes: itself, others in its place, several, or none to drop it.

It is called once for each event, in their order, and again from the first event on when an interrupted copy goes on: so
it must return the same for the same events. It may keep what it has seen, in variables of its own.
"""


def unchanged(source: SourceEvent) -> Iterable[PlainEvent]:
    """Return the event itself: the transform that changes nothing."""
    return (source.event,)


def plain_event_of(row: StoredEvent, personal: Mapping[str, Mapping[str, Any]] | None = None) -> PlainEvent:
    """Return a row as plain data.

    Args:
        row: of a log.
        personal: the values of its personal fields, if they are known.

    Raises:
        msgspec.DecodeError: it is no event of Twofold's.
    """
    tags = _decode_tags(row.tags)
    return PlainEvent(
        type=row.type,
        data=_decode_data(sealed_of(row.payload).public),
        stream_id=shown_stream(row.stream_id, tags),
        stream_type=row.stream_type,
        schema_version=row.schema_version,
        tags=shown_tags(tags),
        metadata=_decode_metadata(row.metadata),
        tenant=tenant_of_tags(tags),
        personal=personal or {},
    )
