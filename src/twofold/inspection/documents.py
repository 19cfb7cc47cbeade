"""What is found, as plain values that become JSON: for programs, pages and `--json`."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

from twofold.commands.aggregate import Aggregate
from twofold.messages.event import RawEvent, RecordedEvent


def document_of(thing: Any) -> Any:
    """Return what an inspection has found as dicts, lists, texts and numbers, under the names of its fields.

    Events become what is stored of them, with the payload as JSON. What has no such form, such as an attribute of an
    aggregate that is an object of a library, becomes its representation.

    Args:
        thing: an event, a trace, a state, a group, or whatever consists of these.
    """
    if isinstance(thing, RecordedEvent):
        return _event(thing)
    if is_dataclass(thing) and not isinstance(thing, type):
        return {each.name: document_of(getattr(thing, each.name)) for each in fields(thing)}
    if isinstance(thing, dict):
        return {str(document_of(key)): document_of(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple | set | frozenset):
        found = [document_of(each) for each in thing]
        return found if isinstance(thing, list | tuple) else sorted(found, key=repr)
    return _value(thing)


def _event(recorded: RecordedEvent[Any]) -> dict[str, Any]:
    known: dict[str, Any] = msgspec.to_builtins(recorded.metadata)
    found = {
        "position": recorded.position, "event_id": str(recorded.event_id), "type": recorded.type,
        "schema_version": recorded.schema_version, "stream": recorded.stream_id, "stream_type": recorded.stream_type,
        "version": recorded.version, "recorded_at": recorded.recorded_at.isoformat(), "tags": list(recorded.tags),
        "metadata": known, "payload": _json(recorded.stored.payload),
    }  # fmt: skip
    return found | ({"tenant": recorded.tenant} if recorded.tenant else {})


def _value(thing: Any) -> Any:
    match thing:
        case Enum():
            return document_of(thing.value)
        case None | bool() | int() | float() | str():
            return thing
        case UUID():
            return str(thing)
        case datetime():
            return thing.astimezone(UTC).isoformat() if thing.tzinfo else thing.isoformat()
        case timedelta():
            return thing.total_seconds()
        case RawEvent():
            return _json(thing.payload)
        case bytes():
            return thing.hex()
    return _object(thing)


def _object(thing: Any) -> Any:
    """Return what msgspec makes of an object; else its attributes, as those of an aggregate."""
    try:
        return msgspec.to_builtins(thing, str_keys=True)
    except (TypeError, ValueError):
        pass
    attributes = getattr(thing, "__dict__", None)
    if not attributes:
        return repr(thing)
    own = {"_uncommitted"} if isinstance(thing, Aggregate) else ()
    return {name: document_of(value) for name, value in attributes.items() if name not in own}


def _json(stored: bytes) -> Any:
    try:
        return msgspec.json.decode(stored)
    except msgspec.DecodeError:
        return stored.decode(errors="replace")
