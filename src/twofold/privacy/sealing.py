"""Seals a log that was written before its events had personal fields: copies it into a new one, encrypted."""

from __future__ import annotations

from collections.abc import Iterable
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
from twofold.messages.ids import event_ids_of
from twofold.messages.stored_event import NewEvent, StoredEvent, is_sealed
from twofold.messages.tenant_names import shown_tags
from twofold.processes.steps import STEP


async def seal_log(source: EventStore, target: EventStore | None, *, progress: Progress = no_progress) -> Moved:
    """Copy a log into another one, with the personal fields of its events encrypted.

    Events whose classes have personal fields, and those of which upcasters make such events, are written as today's
    classes write them: upcast, with today's tags. All others stay as they are. Order, ids and times stay, too, and so
    do positions and versions, unless upcasters make several events of one, or none: what comes behind it then moves.
    The events that steps of processes keep are written so, too. Destroy the source, and its backups, when the
    applications use the copy.

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
    return await transform_log(source._of_all, target, _Sealing(source), examples=0, progress=progress)


class _Sealing:
    """The transform that seals.

    Args:
        store: with keys, and the classes.

    Raises:
        InvalidMessageTypeError: it has no keys, or none of its classes has personal fields.
    """

    def __init__(self, store: EventStore) -> None:
        personal = [codec.stored for codec in store.events.codecs if codec.personal]
        self._names = {name for stored in personal for name in (*stored.names, *stored.sources)}
        self._events = store.events
        if store.events._encryption is None or not self._names:
            raise InvalidMessageTypeError(
                "there is nothing to seal: give the application a key store, and register the classes that have "
                "personal fields"
            )
        self._encryption = store.events._encryption

    def __call__(self, source: SourceEvent) -> Iterable[PlainEvent]:
        """Return what an event becomes."""
        event, row = source.event, source.stored
        if event.type == STEP:
            return (self._with_sealed_input(event),)
        if event.type not in self._names:
            return (event,)
        parts = self._events.decode_payload(row.type, row.schema_version, row.payload, row.position, row.event_id)
        written = [self._as_written(event, row, part.event) for part in parts]
        is_whole = [(each.data, each.personal) for each in written] == [(event.data, event.personal)]
        return (event,) if is_whole and is_sealed(row.payload) else written

    def _as_written(self, event: PlainEvent, row: StoredEvent, today: Any) -> PlainEvent:
        """Return what today's code writes of an event, with its personal fields apart."""
        encoded = self._encoded(today, UUID(bytes=row.event_id), event)
        return replace(
            event,
            type=encoded.type,
            schema_version=encoded.schema_version,
            data=msgspec.json.decode(sealed_of(encoded.payload).public),
            personal=self._encryption.values(encoded.type, row.event_id, encoded.payload, row.position),
            tags=shown_tags(encoded.tag_names),
        )

    def _with_sealed_input(self, step: PlainEvent) -> PlainEvent:
        """Return a step of a process with the event that it keeps as today's code writes that."""
        given = step.data["input"]
        if given.get("type") not in self._names:
            return step
        source_id, place = UUID(given["event_id"]), max(given.get("part", 0), 1) - 1
        payload, version = msgspec.json.encode(given["payload"]), given["schema_version"]
        parts = self._events.decode_payload(given["type"], version, payload, given["position"], source_id.bytes)
        if place >= len(parts):
            raise ValueError("it keeps an event that upcasters leave out now; let `twofold copy --transform` remove it")
        event_id = UUID(bytes=event_ids_of(source_id, [place])[0]) if place else source_id
        encoded = self._encoded(parts[place].event, event_id, step)
        kept = {name: value for name, value in given.items() if name != "part"} | {
            "type": encoded.type,
            "schema_version": encoded.schema_version,
            "payload": msgspec.json.decode(encoded.payload),
            "event_id": str(event_id),
        }
        return replace(step, data={**step.data, "input": kept})

    def _encoded(self, today: Any, event_id: UUID, event: PlainEvent) -> NewEvent:
        """Return what today's code writes of an event of the tenant that another event is of."""
        with metadata(tenant=event.tenant or None):
            names = ("", "") if event.type == STEP else (event.stream_id, event.stream_type)
            return self._events.encode(today, event_id, *names, b"{}")
