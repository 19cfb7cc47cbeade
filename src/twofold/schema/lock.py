"""The lock: for each stored name and version the JSON Schema of its payloads, in one file that diffs well."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from twofold.arguments import check_instance
from twofold.log.codec.event_types import EventTypes
from twofold.log.codec.payload import PayloadCodec
from twofold.log.event_fields import marked_fields
from twofold.messages.event import EventType
from twofold.messages.stream import RESERVED
from twofold.messages.upcasting import RetiredType
from twofold.schema.shapes import Schema, stored_schema

FORM = 1
"""Of the file. stored: with another one, `read_lock` refuses it."""


class LockedType(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the events of one stored name."""

    version: int
    """The schema version that was written when it was locked."""
    tags: dict[str, list[str]] = {}
    """The tags of each field that has some."""
    personal: list[str] = []
    """The fields that are about a person."""
    schemas: dict[str, Schema] = {}
    """The JSON Schema of each version that was ever locked."""


class SchemaLock(msgspec.Struct, frozen=True, kw_only=True):
    """What the lock file holds."""

    twofold_schema_lock: int = FORM
    types: dict[str, LockedType] = {}
    stream_types: list[str] = []
    """The types of the streams of aggregates and deciders: part of the names of stored streams."""


class Known(NamedTuple):
    """What today's code knows of a stored name."""

    declared: EventType | RetiredType
    codec: PayloadCodec | None
    """Of its class; None of a type whose class is gone."""


def known_types(events: EventTypes) -> dict[str, Known]:
    """Return what today's code knows of each stored name, former ones included, apart from Twofold's own."""
    found = {name: Known(codec.stored, codec) for codec in events.codecs for name in codec.names}
    found |= {name: Known(each, None) for each in events.retired for name in each.names}
    return {name: known for name, known in sorted(found.items()) if not name.startswith(RESERVED)}


def lock_types(
    events: EventTypes, earlier: SchemaLock | None = None, stream_types: Collection[str] | None = None
) -> SchemaLock:
    """Return the lock of today's classes: what was locked before stays in it, since a log may hold it.

    Args:
        events: the classes.
        earlier: the lock until now.
        stream_types: of today's aggregates and deciders, in the place of those that were locked; None keeps these.

    Raises:
        TypeError: an argument is of another type.
        InvalidMessageTypeError: a class has a field of which no JSON Schema tells.
    """
    check_instance("events", events, EventTypes)
    if earlier is not None:
        check_instance("earlier", earlier, SchemaLock)
    types = dict(earlier.types) if earlier else {}
    for codec in events.codecs:
        name = codec.stored.name
        if not name.startswith(RESERVED):
            types[name] = _locked(codec, types.get(name))
    streams = (earlier.stream_types if earlier else ()) if stream_types is None else stream_types
    return SchemaLock(types=dict(sorted(types.items())), stream_types=sorted(streams))


def locked_tags(codec: PayloadCodec) -> dict[str, list[str]]:
    """Return the tags of a class by the fields that they are made of."""
    found: dict[str, list[str]] = {}
    for tag, field in sorted(codec.tags.declared):
        found.setdefault(field, []).append(tag)
    return dict(sorted(found.items()))


def read_lock(path: str | Path) -> SchemaLock:
    """Return what a lock file holds.

    Raises:
        ValueError: it is none, or of another form.
        OSError: it cannot be read.
    """
    try:
        lock = msgspec.json.decode(Path(path).read_bytes(), type=SchemaLock)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is no schema lock: {error}; restore it, or write it again") from error
    if lock.twofold_schema_lock != FORM:
        raise ValueError(f"{path} is a schema lock of form {lock.twofold_schema_lock}, this is code for form {FORM}")
    return lock


def write_lock(path: str | Path, lock: SchemaLock) -> None:
    """Write a lock to a file, in an order that stays the same.

    Raises:
        TypeError: it is no lock.
        OSError: the file cannot be written.
    """
    check_instance("lock", lock, SchemaLock)
    Path(path).write_text(json.dumps(msgspec.to_builtins(lock), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _locked(codec: PayloadCodec, earlier: LockedType | None) -> LockedType:
    version = codec.stored.version
    schemas: dict[str, Any] = {**(earlier.schemas if earlier else {}), str(version): stored_schema(codec.cls)}
    return LockedType(
        version=version,
        tags=locked_tags(codec),
        personal=marked_fields(codec.cls, "Personal"),
        schemas={each: schemas[each] for each in sorted(schemas, key=int)},
    )
