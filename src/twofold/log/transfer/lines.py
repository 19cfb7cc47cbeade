"""Events and commands as lines of JSON, and back: one object for each, whose fields are the columns of the log.

The log's own JSON stands in a line byte for byte. If a line could not hold it so, because it is broken in
lines or is no valid JSON, it stands there as a text that is JSON's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from msgspec.structs import astuple

from twofold.messages.stored_event import COLUMNS, ColumnKind, StoredEvent
from twofold.ports.maintenance import StoredCommand

_OPTIONS: Any = {"frozen": True, "gc": False, "forbid_unknown_fields": True}
_TYPES = {ColumnKind.ID: str, ColumnKind.NAME: str, ColumnKind.JSON: msgspec.Raw}
_EventLine: Any = msgspec.defstruct(
    "EventLine", [(name, _TYPES.get(kind, int)) for name, kind in COLUMNS.items()], **_OPTIONS
)
_KINDS = list(COLUMNS.values())


class _CommandLine(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """As `StoredCommand`."""

    command_id: str
    content_hash: str
    result: msgspec.Raw
    name: str
    first_position: int
    last_position: int


encoder = msgspec.json.Encoder()
_event_decoder, _command_decoder = msgspec.json.Decoder(_EventLine), msgspec.json.Decoder(_CommandLine)
_skip = msgspec.json.Decoder(msgspec.Raw).decode

COMMANDS_BEGIN = b'{"command_id":'
"""How the line of a command begins, and of nothing else."""
_PLAIN_ENDS = (b"{}", b"[]")


def event_lines(rows: Sequence[StoredEvent]) -> bytes:
    """Return events as lines."""
    columns = zip(*map(astuple, rows), strict=True)
    converted = [_ENCODED[kind](values) for kind, values in zip(_KINDS, columns, strict=True)]
    return encoder.encode_lines(list(map(_EventLine, *converted)))


def command_lines(commands: Sequence[StoredCommand]) -> bytes:
    """Return commands as lines."""
    lines = [
        _CommandLine(each.command_id.hex(), each.content_hash.hex(), _raw(each.result), *each[3:]) for each in commands
    ]
    return encoder.encode_lines(lines)


def events_of(lines: bytes) -> list[StoredEvent]:
    """Return the events of some lines, at least one.

    Raises:
        msgspec.DecodeError, ValueError: a line is none of an event.
    """
    columns = zip(*map(astuple, _event_decoder.decode_lines(lines)), strict=True)
    converted = [_DECODED[kind](values) for kind, values in zip(_KINDS, columns, strict=True)]
    return list(map(StoredEvent, *converted))


def commands_of(lines: bytes) -> list[StoredCommand]:
    """Return the commands of some lines.

    Raises:
        msgspec.DecodeError, ValueError: a line is none of a command.
    """
    return [
        StoredCommand(bytes.fromhex(command_id), bytes.fromhex(content_hash), _stored(result), *others)
        for command_id, content_hash, result, *others in map(astuple, _command_decoder.decode_lines(lines))
    ]


def _raw(stored: bytes) -> msgspec.Raw:
    """Return stored JSON byte for byte, or as a text."""
    try:
        if stored[:1] + stored[-1:] in _PLAIN_ENDS and b"\n" not in stored and b"\r" not in stored:
            return _skip(stored)
    except msgspec.DecodeError:
        pass
    return msgspec.Raw(encoder.encode(stored.decode()))


def _stored(raw: msgspec.Raw) -> bytes:
    stored = bytes(raw)
    return msgspec.json.decode(stored, type=str).encode() if stored[:1] == b'"' else stored


def _same(values: Iterable[Any]) -> Iterable[Any]:
    return values


_Convert = Callable[[Iterable[Any]], Iterable[Any]]
_ENCODED: dict[ColumnKind, _Convert] = {
    **dict.fromkeys(ColumnKind, _same),
    ColumnKind.ID: lambda values: map(bytes.hex, values),
    ColumnKind.JSON: lambda values: map(_raw, values),
}
_DECODED: dict[ColumnKind, _Convert] = {
    **dict.fromkeys(ColumnKind, _same),
    ColumnKind.ID: lambda values: map(bytes.fromhex, values),
    ColumnKind.JSON: lambda values: map(_stored, values),
}
