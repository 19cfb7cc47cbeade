"""Rows in the binary format of `COPY`, made column by column: row by row, the driver takes longer."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from twofold.engines.postgres.wire.arrays import length

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
"""What comes before the rows."""
END = struct.pack("!h", -1)
"""And behind them."""


def binary_rows(columns: Sequence[Sequence[bytes]]) -> bytes:
    """Return rows as `COPY … FROM STDIN (FORMAT binary)` takes them, between `SIGNATURE` and `END`.

    Args:
        columns: for each column the values of all rows, in the binary format of its type; none is NULL.
    """
    width = 2 * len(columns) + 1
    parts = [struct.pack("!h", len(columns))] * (width * len(columns[0]))
    for place, values in enumerate(columns):
        parts[2 * place + 1 :: width] = map(length, map(len, values))
        parts[2 * place + 2 :: width] = values
    return b"".join(parts)
