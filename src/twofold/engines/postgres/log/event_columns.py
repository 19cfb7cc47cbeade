"""The columns of the log on PostgreSQL: how its rows are read, sent and copied, made of the one list of columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, cast

from msgspec.structs import astuple

from twofold.engines.postgres.wire import arrays
from twofold.engines.postgres.wire.arrays import Binary
from twofold.engines.postgres.wire.copy_rows import binary_rows
from twofold.messages.stored_event import BROUGHT, COLUMNS, ColumnKind, NewEvent, StoredEvent

SELECTED = ", ".join(COLUMNS)
"""What `StoredEvent` is made of."""

_NOTHING = {
    ColumnKind.ID: "NULL::uuid",
    ColumnKind.NAME: "''",
    ColumnKind.NUMBER: "0",
    ColumnKind.LARGE: "0::bigint",
    ColumnKind.JSON: "NULL::json",
}
_COVERED = {"position": "position", "event_id": "event_id", "version": "-1"}
COVERED = ", ".join(_COVERED.get(name, _NOTHING[kind]) for name, kind in COLUMNS.items())
"""A row that only tells what stands at a position; its version says that it is one."""

COPY = f"COPY twofold_events ({SELECTED}) FROM STDIN (FORMAT binary)".encode()

_ONE = {
    ColumnKind.ID: "Binary(event.{}, UUID)",
    ColumnKind.NAME: "Binary(event.{}.encode(), TEXT)",
    ColumnKind.NUMBER: "int4(event.{})",
    ColumnKind.LARGE: "int8(event.{})",
    ColumnKind.JSON: "Binary(event.{}, JSON)",
}
_MANY: dict[ColumnKind, Callable[[Any], Binary]] = {
    ColumnKind.ID: partial(arrays.array, type=arrays.UUID),
    ColumnKind.NAME: arrays.texts,
    ColumnKind.NUMBER: arrays.int4s,
    ColumnKind.LARGE: arrays.int8s,
    ColumnKind.JSON: partial(arrays.array, type=arrays.JSON),
}
_COPIED: dict[ColumnKind, Callable[[Any], bytes]] = {
    ColumnKind.NAME: str.encode,
    ColumnKind.NUMBER: arrays.int4_bytes,
    ColumnKind.LARGE: arrays.int8_bytes,
}
_READ: dict[ColumnKind, Callable[[bytes], Any]] = {
    ColumnKind.NAME: bytes.decode,
    ColumnKind.NUMBER: partial(int.from_bytes, signed=True),
    ColumnKind.LARGE: partial(int.from_bytes, signed=True),
}
_copied = [_COPIED.get(kind) for kind in COLUMNS.values()]
_many = [_MANY[kind] for kind in BROUGHT.values()]


def _compiled() -> Callable[[NewEvent], tuple[Binary, ...]]:
    """Return `one`. A loop over the columns takes half as long again."""
    values = [_ONE[kind].format(name) for name, kind in BROUGHT.items()]
    source = f"lambda event: ({', '.join(values)}, int8(event.content_checksum))"
    return cast("Callable[[NewEvent], tuple[Binary, ...]]", eval(source, dict(vars(arrays))))  # noqa: S307


one = _compiled()
"""Return the columns that an event brings along, and what the checksum covers of it: arguments, in their order."""


def many(events: Iterable[NewEvent]) -> tuple[list[Binary], tuple[tuple[str, ...], ...]]:
    """Return the same of some events, one array for each column, and the tags of each event."""
    *columns, tag_names, contents = zip(*events, strict=True)
    sent = [encode(values) for encode, values in zip(_many, columns, strict=True)]
    sent.append(arrays.int8s(contents))
    return sent, tag_names


def read_rows(values: Sequence[bytes], command: Sequence[ColumnKind]) -> list[tuple[Any, ...]]:
    """Return rows, given the values of all in the binary format: in each, those of a command, and those of an event."""
    read = [_READ.get(kind) for kind in (*command, *COLUMNS.values())]
    columns = [values[place :: len(read)] for place in range(len(read))]
    converted = [map(convert, each) if convert else each for convert, each in zip(read, columns, strict=True)]
    return list(zip(*converted, strict=True))


def as_copied(rows: Sequence[StoredEvent]) -> bytes:
    """Return rows, at least one, as `COPY` takes them."""
    columns = zip(*map(astuple, rows), strict=True)
    return binary_rows(
        [list(map(convert, each)) if convert else each for convert, each in zip(_copied, columns, strict=True)]
    )
