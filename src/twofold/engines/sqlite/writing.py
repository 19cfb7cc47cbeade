"""Writing many rows with few statements."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

MARKS = 2000
"""Parameters of a statement, about.

While one runs, other threads have Python for themselves. What is shorter would only lose it to them for a moment.
"""


def write_rows(connection: sqlite3.Connection, insert: str, rows: Sequence[Sequence[object]]) -> None:
    """Insert rows as `executemany` does; many of them in two thirds of its time.

    Args:
        connection: with an open transaction.
        insert: a statement for one row, `INSERT INTO … VALUES (…)`, maybe with ` ON CONFLICT …` behind it.
        rows: their values. If some cannot be stored, it is not known which of the others were.
    """
    size = max(MARKS // len(rows[0]), 1) if rows else 1
    together = len(rows) - len(rows) % size
    for start in range(0, together, size):
        connection.execute(_for_rows(insert, size), tuple(chain.from_iterable(rows[start : start + size])))
    if together < len(rows):
        connection.executemany(insert, rows[together:])


@lru_cache(256)
def _for_rows(insert: str, size: int) -> str:
    """Return a statement for `size` rows."""
    head, _, rest = insert.partition(" VALUES ")
    values, conflict, tail = rest.partition(" ON CONFLICT ")
    return f"{head} VALUES {', '.join([values] * size)}{conflict}{tail}"
