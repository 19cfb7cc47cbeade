"""Samples of a real log: stored payloads of each name and version, which today's code has to read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from twofold.arguments import check_instance, check_items, check_whole
from twofold.checks.findings import Finding
from twofold.errors import TwofoldError
from twofold.log.codec.encrypt import sealed_of
from twofold.log.codec.event_types import EventTypes
from twofold.log.event_fields import marked_fields
from twofold.log.event_store import EventStore
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import StoredEvent, is_sealed
from twofold.messages.stream import RESERVED
from twofold.ports.maintenance import PortableLog
from twofold.schema.lock import SchemaLock, read_lock
from twofold.schema.masks import MASK, masked, replaced
from twofold.schema.rules import check_types


class Sample(msgspec.Struct, frozen=True):
    """A stored payload."""

    type: str
    schema_version: int
    payload: dict[str, Any]


async def sample_log(store: EventStore, lock: SchemaLock, *, each: int = 3, scan: int = 1000) -> list[Sample]:
    """Return stored payloads of each name and version, with what is personal masked.

    Of encrypted fields the placeholders are taken. The other fields that are personal, or have ever been, get masks
    that they admit; an event whose fields admit none is left out.

    Args:
        store: an open store with today's classes.
        lock: says which fields of events have ever been personal.
        each: payloads of a name and version, at most.
        scan: events of a name that are looked at, from its beginning and from its end.

    Raises:
        TypeError, ValueError: an argument cannot work.
        StorageError: the database failed.
    """
    check_instance("store", store, EventStore)
    check_instance("lock", lock, SchemaLock)
    check_whole("each", each, 1)
    check_whole("scan", scan, 1)
    log: Any = store.log
    portable: PortableLog = log
    found: list[Sample] = []
    for name in sorted((await portable.inspect()).types):
        if name.startswith(RESERVED):
            continue
        query = EventQuery.exactly(name)
        first = await store.log.read(query, limit=scan)
        last = await store.log.read(query, limit=scan, backwards=True)
        masking = _Masking(store.events, lock, name)
        for rows in _by_version({row.position: row for row in (*first, *last)}.values()).values():
            found += filter(None, map(masking.sample, rows[:each]))
    return found


def check_samples(events: EventTypes, samples: Sequence[Sample]) -> list[Finding]:
    """Return which samples today's code does not read.

    Raises:
        TypeError: an argument is of another type.
    """
    check_instance("events", events, EventTypes)
    check_items("samples", samples, lambda each: isinstance(each, Sample), "samples")
    findings = []
    for place, each in enumerate(samples, 1):
        try:
            events.decode_payload(each.type, each.schema_version, msgspec.json.encode(each.payload), place)
        except TwofoldError as error:
            text = f"Sample {place}, {each.type} version {each.schema_version}, is not read: {error}."
            findings.append(Finding(code="TF308", subject=each.type, text=text))
    return findings


def write_samples(path: str | Path, samples: Sequence[Sample]) -> None:
    """Write samples to a file, one to a line.

    Raises:
        OSError: the file cannot be written.
    """
    Path(path).write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in samples))


def read_samples(path: str | Path) -> list[Sample]:
    """Return the samples that a file holds.

    Raises:
        ValueError: it holds something else.
        OSError: it cannot be read.
    """
    try:
        return [msgspec.json.decode(line, type=Sample) for line in Path(path).read_bytes().splitlines()]
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} holds no samples: {error}; sample a log again") from error


def samples_of(path: str | Path) -> Path:
    """Return the file of the samples beside a lock."""
    return Path(path).with_suffix(".samples.jsonl")


def check_file(events: EventTypes, path: str | Path, stream_types: Collection[str] | None = None) -> list[Finding]:
    """Return what `check_types` finds by a lock file, and `check_samples` by the samples beside it, if there are any.

    Raises:
        ValueError: there is no such file, or it holds something else.
        TypeError, InvalidMessageTypeError, ModuleNotFoundError: as `check_types`.
    """
    if not Path(path).exists():
        raise ValueError(f"there is no {path}; write it with `twofold schema lock`")
    findings, samples = check_types(events, read_lock(path), stream_types), samples_of(path)
    return [*findings, *(check_samples(events, read_samples(samples)) if samples.exists() else ())]


def _personal(events: EventTypes, lock: SchemaLock, name: str) -> Collection[str]:
    """Return the fields that are or were personal in any class that has, or had, this name."""
    cls = events.class_of(name)
    return {
        *(lock.types[name].personal if name in lock.types else ()),
        *(marked_fields(cls, "Personal") if cls else ()),
    }


def _by_version(rows: Collection[StoredEvent]) -> dict[int, list[StoredEvent]]:
    found: dict[int, list[StoredEvent]] = {}
    for row in sorted(rows, key=lambda row: row.position):
        found.setdefault(row.schema_version, []).append(row)
    return found


class _Masking:
    """Makes samples of the events of one name.

    Args:
        events: today's classes.
        lock: says which fields of events have ever been personal, and what they admit.
        name: the stored name.
    """

    def __init__(self, events: EventTypes, lock: SchemaLock, name: str) -> None:
        self._events = events
        self._personal = _personal(events, lock, name)
        self._schemas = lock.types[name].schemas if name in lock.types else {}

    def sample(self, row: StoredEvent) -> Sample | None:
        """Return an event with what is personal masked; None if a field admits no mask."""
        payload = msgspec.json.decode(sealed_of(row.payload).public)
        encrypted = self._placeholders(row) if is_sealed(row.payload) else {}
        names = [each for each in payload if each in self._personal and encrypted.get(each, ...) != payload[each]]
        if not self._is_read(row, payload):  # `check_samples` says so, whatever the masks are
            payload |= {name: replaced(payload[name], lambda _: MASK) for name in names}
            return Sample(row.type, row.schema_version, payload)
        for name in names:
            fits = partial(self._fits, row, payload, name)
            try:
                payload[name] = masked(payload[name], self._schema(row.schema_version, name), fits)
            except ValueError:
                return None
        return Sample(row.type, row.schema_version, payload)

    def _fits(self, row: StoredEvent, payload: dict[str, Any], name: str, mask: Any) -> bool:
        return self._is_read(row, payload | {name: mask})

    def _is_read(self, row: StoredEvent, payload: dict[str, Any]) -> bool:
        try:
            self._events.decode_payload(row.type, row.schema_version, msgspec.json.encode(payload), row.position)
        except TwofoldError:
            return False
        return True

    def _placeholders(self, row: StoredEvent) -> dict[str, Any]:
        """Return the placeholders of the fields that may be encrypted."""
        codec = next((each for each in self._events.codecs if row.type in each.names), None)
        fields = [field for group in codec.personal for field in group.fields] if codec else []
        return {each.stored: msgspec.json.decode(each.placeholder) for each in fields}

    def _schema(self, version: int, name: str) -> dict[str, Any]:
        whole = self._schemas.get(str(version), {})
        found = whole.get("properties", {}).get(name, {})
        return {**found, "$defs": whole.get("$defs", {})}
