"""Upcasting: a stored payload through the pipeline of steps, up to events of today's classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from twofold.log.codec.payload import PayloadCodec
from twofold.messages.event import EventType, event_type_of
from twofold.messages.upcasting import Into, RetiredType, made_by

MAX_STEPS = 1_000
"""Steps from a stored payload to an event, at most: more lead in a circle."""


class Part(NamedTuple):
    """An event that upcasters have made of a payload."""

    event: Any
    made_type: str = ""
    """The name of its type, if it is not the one that was stored."""


class Parts(tuple[Part, ...]):
    """All events that upcasters have made of one payload, in order; mostly it is one."""

    __slots__ = ()


class Upcast(NamedTuple):
    """A payload of today's version of a class."""

    cls: type
    payload: dict[str, Any]


def upcasted(
    of: type | RetiredType, schema_version: int, codec_of: Callable[[type], PayloadCodec]
) -> Callable[[bytes], Parts]:
    """Return what makes events of today's classes of stored payloads.

    Args:
        of: the class that has the stored name today, or the retired type.
        schema_version: of the payloads.
        codec_of: knows the codecs of classes.
    """

    def decode(payload: bytes) -> Parts:
        found = upcast(of, schema_version, msgspec.json.decode(payload))
        return Parts(Part(codec_of(cls).convert(data), "" if cls is of else _name(cls)) for cls, data in found)

    return decode


def upcast(of: type | RetiredType, version: int, payload: dict[str, Any], steps: int = 0) -> Iterator[Upcast]:
    """Yield what a payload of a schema version has become.

    Raises:
        ValueError: a step leads nowhere, or in a circle.
        TypeError: a step made something else than payloads.
        Exception: whatever a step raises.
    """
    declared = event_type_of(of) if isinstance(of, type) else of
    if isinstance(of, type) and version == declared.version:
        yield Upcast(of, payload)
        return
    if steps > MAX_STEPS or not 1 <= version <= declared.version:
        raise ValueError(f"no upcaster of {declared.name} leads from version {version} to {declared.version}")
    if not declared.upcasters:
        return  # of a retired type that is left out
    for made in made_by(declared.upcasters[version], payload):
        if isinstance(made, Into):
            _refuse_unnamed(made.cls, declared)
            yield from upcast(made.cls, made.version, made.payload, steps + 1)
        elif isinstance(of, RetiredType) and version == declared.version:
            raise ValueError(f"the last upcaster of {declared.name} makes Into(…), or nothing: its class is gone")
        else:
            yield from upcast(of, version + 1, made, steps + 1)


def _refuse_unnamed(cls: type, source: EventType | RetiredType) -> None:
    """Refuse an event whose class does not say what it is made of: its readers would not look there."""
    declared = event_type_of(cls)
    if declared.name != source.name and source.name not in declared.sources:
        raise ValueError(
            f"{source.name} becomes {cls.__qualname__}, whose readers do not look for it there; write "
            f"@event_type(made_of=(…,)) with {source.name} on {cls.__qualname__}"
        )


def _name(cls: type) -> str:
    return event_type_of(cls).name
