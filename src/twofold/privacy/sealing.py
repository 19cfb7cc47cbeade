"""Seals a log that was written before its events had personal fields: copies it into a new one, encrypted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any
from uuid import UUID

import msgspec

from twofold.arguments import check_function, check_instance
from twofold.errors import InvalidMessageTypeError
from twofold.log.codec.encrypt import sealed_of
from twofold.log.event_store import EventStore
from twofold.log.moving.plain_event import PlainEvent, SourceEvent
from twofold.log.moving.report import Moved
from twofold.log.moving.transform import transform_log
from twofold.log.verify import Progress, no_progress
from twofold.messages.context import metadata
from twofold.messages.stored_event import StoredEvent, is_sealed
from twofold.messages.tenant_names import shown_tags


async def seal_log(source: EventStore, target: EventStore | None, *, progress: Progress = no_progress) -> Moved:
    """Copy a log into another one, with the personal fields of its events encrypted.

    Events whose classes have personal fields, and those of which upcasters make such events, are written as today's
    classes write them: upcast, with today's tags. All others stay as they are. Order, ids and times stay, too, and so
    do positions and versions, unless upcasters make several events of one, or none: what comes behind it then moves.
    Destroy the source, and its backups, when the applications use the copy.

    Interrupted, it goes on when it is run again.

    Args:
        source: an open store with keys, in which the classes are registered. No tenant's: as for `transform_log`.
        target: an open store whose log is empty, or holds what an earlier run has stored; None stores nothing.
        progress: told how far it has come.

    Raises:
        InvalidMessageTypeError: the source has no keys, or none of its classes has personal fields.
        TransformFailedError: an event cannot be read, or has no subject; it names the event.
        LogsDifferError, CorruptEventError, StorageError: see `transform_log`.
    """
    check_instance("source", source, EventStore)
    if target is not None:
        check_instance("target", target, EventStore)
    check_function("progress", progress)
    return await transform_log(source._of_all, target, _sealing(source), examples=0, progress=progress)


def _sealing(store: EventStore) -> Callable[[SourceEvent], Iterable[PlainEvent]]:
    personal = [codec.stored for codec in store.events.codecs if codec.personal]
    names = {name for stored in personal for name in (*stored.names, *stored.sources)}
    if store.keys is None or not names:
        raise InvalidMessageTypeError(
            "there is nothing to seal: give the application a key store, and register the classes that have personal "
            "fields"
        )
    encryption = store.events._encryption
    assert encryption is not None  # noqa: S101 - it has keys

    def seal(source: SourceEvent) -> Iterable[PlainEvent]:
        event, row = source.event, source.stored
        if event.type not in names:
            return (event,)
        parts = store.events.decode_payload(row.type, row.schema_version, row.payload, row.position, row.event_id)
        written = [as_written(event, row, part.event) for part in parts]
        is_whole = [(each.data, each.personal) for each in written] == [(event.data, event.personal)]
        return (event,) if is_whole and is_sealed(row.payload) else written

    def as_written(event: PlainEvent, row: StoredEvent, today: Any) -> PlainEvent:
        """Return what today's code writes of an event, with its personal fields apart."""
        with metadata(tenant=event.tenant or None):
            encoded = store.events.encode(today, UUID(bytes=row.event_id), event.stream_id, event.stream_type, b"{}")
        return replace(
            event,
            type=encoded.type,
            schema_version=encoded.schema_version,
            data=msgspec.json.decode(sealed_of(encoded.payload).public),
            personal=encryption.values(encoded.type, row.event_id, encoded.payload, row.position),
            tags=shown_tags(encoded.tag_names),
        )

    return seal
