"""The events of one person: found by the id of the key in their payloads, by reading the log once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from twofold.log.codec.encrypt import Encryption
from twofold.log.event_store import EventStore
from twofold.log.verify import verified
from twofold.messages.event import RecordedEvent
from twofold.messages.stored_event import MARKER, StoredEvent
from twofold.processes.steps import STEP


class Found(NamedTuple):
    """Where the personal data of persons stand in a log."""

    positions: Sequence[int]
    types: frozenset[str]
    streams: int
    """Streams that hold such events."""


async def events_with_keys(store: EventStore, key_ids: Collection[str]) -> AsyncIterator[StoredEvent]:
    """Iterate over the events that hold something which is encrypted with one of some keys.

    Those in which a process keeps such an event are among them.

    Raises:
        CorruptEventError, HistoryChangedError, StorageError: see `verified`.
    """
    wanted = [f'"{each}":'.encode() for each in key_ids]
    log = store._log
    async with aclosing(verified(log, await log.head(), options=store.options)) as chunks:
        async for rows in chunks:
            for row in rows:
                if any(each in row.payload for each in wanted):
                    yield row


async def find(store: EventStore, key_ids: Collection[str]) -> Found:
    """Return where the personal data of some persons stand.

    Raises:
        CorruptEventError, HistoryChangedError, StorageError: see `verified`.
    """
    positions, types, streams = list[int](), set[str](), set[str]()
    async for row in events_with_keys(store, key_ids):
        positions.append(row.position)
        types.add(row.type)
        streams.add(row.stream_id)
    return Found(positions, frozenset(types), len(streams - {""}))


def as_shown(row: StoredEvent, encryption: Encryption, key_id: str) -> dict[str, Any]:
    """Return an event as a person is told of it: with the person's own personal fields, and no one else's."""
    recorded = RecordedEvent(None, row)
    payload = encryption.decrypt(row.type, row.event_id, row.payload, row.position, only=key_id)
    data = msgspec.json.decode(payload)
    if row.type == STEP:
        _open_input(data["input"], encryption, key_id)
    return {
        "position": row.position,
        "recorded_at": recorded.recorded_at.isoformat(),
        "stream": recorded.stream_id,
        "type": row.type,
        "schema_version": row.schema_version,
        "data": data,
    }


def _open_input(given: dict[str, Any], encryption: Encryption, key_id: str) -> None:
    """Open the event that a step of a process keeps: it is bound to its own id and type."""
    if MARKER in given.get("payload", {}):
        payload, event_id = msgspec.json.encode(given["payload"]), UUID(given["event_id"]).bytes
        opened = encryption.decrypt(given["type"], event_id, payload, given["position"], only=key_id)
        given["payload"] = msgspec.json.decode(opened)
