"""Seals a log that was written before its events had personal fields: copies it into a new one, encrypted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from uuid import UUID

import msgspec

from twofold.arguments import check_function, check_instance
from twofold.errors import InvalidMessageTypeError
from twofold.log.codec.encrypt import is_sealed
from twofold.log.event_store import EventStore
from twofold.log.moving.plain_event import PlainEvent, SourceEvent
from twofold.log.moving.report import Moved
from twofold.log.moving.transform import transform_log
from twofold.log.verify import Progress, no_progress
from twofold.messages.context import metadata
from twofold.messages.event import event_type_of
from twofold.messages.tenant_names import shown_tags


async def seal_log(source: EventStore, target: EventStore | None, *, progress: Progress = no_progress) -> Moved:
    """Copy a log into another one, with the personal fields of its events encrypted.

    Events whose classes have personal fields are written as today's classes write them: upcast, with today's tags. All
    others stay as they are. Order, ids, times, positions and versions stay, too. Destroy the source, and its backups,
    when the applications use the copy.

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
    names = {name for codec in store.events.codecs if codec.personal for name in codec.names}
    if store.keys is None or not names:
        raise InvalidMessageTypeError(
            "there is nothing to seal: give the application a key store, and register the classes that have personal "
            "fields"
        )

    def seal(source: SourceEvent) -> Iterable[PlainEvent]:
        event, row = source.event, source.stored
        if event.type not in names or is_sealed(row.payload):
            return (event,)
        parts = store.events.decode_payload(row.type, row.schema_version, row.payload, row.position, row.event_id)
        if len(parts) != 1:
            raise ValueError(f"upcasters make {len(parts)} events of it; let `twofold copy --transform` do so first")
        today = parts[0].event
        with metadata(tenant=event.tenant or None):
            encoded = store.events.encode(today, UUID(bytes=row.event_id), event.stream_id, event.stream_type, b"{}")
        return (
            replace(
                event,
                type=encoded.type,
                schema_version=event_type_of(type(today)).version,
                data=msgspec.json.decode(encoded.payload),
                tags=shown_tags(encoded.tag_names),
            ),
        )

    return seal
