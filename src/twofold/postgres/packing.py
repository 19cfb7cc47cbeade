"""Rows of the log packed into one: the server makes it while this process works, and it comes apart quickly.

A driver takes as long to hand out twelve values of a row as all else takes that is done to the event.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from twofold.postgres.queries import query as named
from twofold.stored_event import StoredEvent, as_stored_event

FEW = 100
"""Up to so many rows, packing takes longer than it spares."""

_numbers = msgspec.json.Decoder(list[int]).decode


@lru_cache(256)
def packed(sql: bytes) -> bytes:
    """Return a statement that packs the rows of another one."""
    return named("packed").replace(b"{rows}", sql)


def unpacked(columns: Sequence[Any]) -> list[StoredEvent]:
    """Return the rows, at least one: numbers stand behind commas, names behind U+001F, JSON behind line breaks.

    Raises:
        ValueError: a column came apart in another number of values. A name may hold the separator, and JSON that others
            wrote a line break: such rows have to be read one by one.
    """
    positions, ids, streams, stream_types, versions, types, schemas, payloads, metadata, tags, at, checksums = columns
    values = zip(
        _numbers(f"[{positions}]"),
        [ids[start : start + 16] for start in range(0, len(ids), 16)],
        streams.split("\x1f"),
        stream_types.split("\x1f"),
        _numbers(f"[{versions}]"),
        types.split("\x1f"),
        _numbers(f"[{schemas}]"),
        payloads.split(b"\n"),
        metadata.split(b"\n"),
        tags.split(b"\n"),
        _numbers(f"[{at}]"),
        _numbers(f"[{checksums}]"),
        strict=True,
    )
    return list(map(as_stored_event, values))
