"""Makes the rows of a log of what a transform returns, and refuses by name what cannot be stored.

1. The transform is called with an event, and what it returns is checked.
2. What was not changed stays byte for byte; the first event keeps the id, those of the others follow from it.
3. `Renumbering` gives the rows their places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import msgspec

from twofold.arguments import shown
from twofold.errors import TransformFailedError
from twofold.log.codec.event_types import encode_metadata
from twofold.log.codec.payload import MAX_PAYLOAD, refuse_nul
from twofold.log.codec.stored_names import check_name
from twofold.log.moving.personal_values import Personal
from twofold.log.moving.plain_event import PlainEvent, SourceEvent, Transform, encode
from twofold.log.moving.renumbering import Renumbering
from twofold.log.moving.report import Report
from twofold.messages.event import Metadata
from twofold.messages.ids import event_ids_of
from twofold.messages.stored_event import StoredEvent, is_sealed
from twofold.messages.tenant_names import own_name, tenant_tag
from twofold.tenants import checked_tenant

_encode_tags = msgspec.json.Encoder().encode
UNKNOWN = Personal(None)
"""Of a source without keys."""
MAX_VERSION = 2**31 - 1
"""The range of the column."""


class Transforming:
    """Turns events of a source into rows of the target, chunk by chunk, in their order.

    Args:
        transform: the user's function.
        renumbering: gives the places.
        report: is told what became of each event.
        personal: encrypts personal fields again.
    """

    def __init__(
        self, transform: Transform, renumbering: Renumbering, report: Report, personal: Personal = UNKNOWN
    ) -> None:
        self._personal = personal
        self._transform = transform
        self._renumbering = renumbering
        self._report = report

    def rows(self, sources: Sequence[SourceEvent]) -> list[StoredEvent]:
        """Return what events become.

        Raises:
            TransformFailedError: the transform raised, or returned what cannot be stored; it names the event.
        """
        made = [self._made(source) for source in sources]
        self._renumbering.note((source.position, len(rows)) for source, rows in zip(sources, made, strict=True))
        return self._renumbering.placed([row for rows in made for row in rows])

    def _made(self, source: SourceEvent) -> list[StoredEvent]:
        """Return the rows that an event becomes, without places."""
        before = _Content(source.event)
        rows: list[StoredEvent] = []
        for event in self._results(source):
            try:
                rows.append(self._row(source.stored, before, event, len(rows)))
            except Exception as error:
                raise _failed(source, f"it became {shown(event)}: {error}") from error
        self._report.add(source, rows)
        return rows

    def _results(self, source: SourceEvent) -> Iterator[Any]:
        """Iterate over what the transform returns; what is made of one is made before it goes on."""
        try:
            found: Any = self._transform(source)
        except Exception as error:
            raise _failed(source, f"{type(error).__name__}: {error}") from error
        if isinstance(found, PlainEvent):
            raise _failed(source, "it returned one event; return a list, such as [event]")
        if found is None or isinstance(found, str | bytes | Mapping) or not hasattr(found, "__iter__"):
            raise _failed(source, f"it returned {shown(found)}; return the events, and [] to drop it")
        events = iter(found)
        while True:
            try:
                event = next(events)
            except StopIteration:
                return
            except Exception as error:  # a generator runs here
                raise _failed(source, f"{type(error).__name__}: {error}") from error
            yield event

    def _row(self, stored: StoredEvent, before: _Content, event: Any, place: int) -> StoredEvent:
        """Return an event as a row that has the place of its source still.

        Raises:
            TwofoldError, TypeError, ValueError: it cannot be stored.
        """
        _check(event)
        event_id = event_ids_of(UUID(bytes=stored.event_id), [place])[0] if place else stored.event_id
        is_bound = event_id == stored.event_id and event.type == stored.type
        is_same = encode(event.data) == before.data and encode(event.personal) == before.personal
        if is_same and (is_bound or not is_sealed(stored.payload)):
            payload = stored.payload
        else:
            payload = self._personal.payload(stored, before.event, event, event_id)
            _check_payload(event.type, payload)
        metadata = stored.metadata if encode(event.metadata) == before.metadata else encode_metadata(event.metadata)
        return _placed(stored, event, event_id, payload, metadata)


def _failed(source: SourceEvent, reason: str) -> TransformFailedError:
    return TransformFailedError(source.position, source.event.type, source.event_id, reason)


class _Content:
    """What an event was before the transform saw it, as it may change a dict in place."""

    def __init__(self, event: PlainEvent) -> None:
        self.data = encode(event.data)
        self.metadata = encode(event.metadata)
        self.personal = encode(event.personal)
        data, personal = dict(event.data), {key_id: dict(values) for key_id, values in event.personal.items()}
        self.event = replace(event, data=data, personal=personal) if personal else event


def _placed(stored: StoredEvent, event: PlainEvent, event_id: bytes, payload: bytes, metadata: bytes) -> StoredEvent:
    tags = tuple(dict.fromkeys(event.tags))
    if event.tenant:
        tags = (tenant_tag(event.tenant), *(own_name(event.tenant, tag) for tag in tags))
    encoded_tags = _encode_tags(tags) if tags else b"[]"
    return StoredEvent(
        position=stored.position,
        version=stored.version,
        recorded_at=stored.recorded_at,
        checksum=stored.checksum,
        stream_id=own_name(event.tenant, event.stream_id) if event.tenant else event.stream_id,
        stream_type=event.stream_type,
        type=event.type,
        schema_version=event.schema_version,
        event_id=event_id,
        payload=payload,
        metadata=metadata,
        tags=encoded_tags,
    )


def _check_payload(type_name: str, payload: bytes) -> None:
    refuse_nul(type_name, payload)
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"its data takes {len(payload)} bytes, the limit is {MAX_PAYLOAD}")


def _check(event: Any) -> None:
    """Refuse what no log could hold.

    Raises:
        TwofoldError, TypeError, ValueError: it is such.
    """
    if not isinstance(event, PlainEvent):
        raise TypeError("it is no PlainEvent")
    check_name("type", event.type, "type")
    if event.stream_id or event.stream_type:
        check_name("stream", event.stream_id, "stream_id")
        check_name("stream type", event.stream_type, "stream_type")
    if type(event.schema_version) is not int or not 1 <= event.schema_version <= MAX_VERSION:
        raise ValueError(f"`schema_version` is a number from 1, got {event.schema_version!r}")
    if not isinstance(event.metadata, Metadata):
        raise TypeError(f"`metadata` is Metadata, got {event.metadata!r}")
    if not isinstance(event.data, Mapping) or not all(isinstance(key, str) for key in event.data):
        raise TypeError(f"`data` is a dict with texts as keys, got {event.data!r}")
    _check_tags(event)


def _check_tags(event: PlainEvent) -> None:
    if event.tenant:
        checked_tenant(event.tenant)
    if isinstance(event.tags, str):
        raise TypeError(f"`tags` is a tuple of texts, got {event.tags!r}")
    for tag in event.tags:
        check_name("tag", tag, "tags")
        if ":" not in tag:
            raise ValueError(f"a tag has a name and a value, such as customer:c1; `tags` holds {tag!r}")
