"""The columns of the log on SQLite: how its rows are read and written, made of the one list of columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twofold.messages.stored_event import BROUGHT, COLUMNS, SEAL_MODULUS, ColumnKind, NewEvent, StoredEvent

Row = tuple[object, ...]

SELECTED = ", ".join(f"CAST({name} AS BLOB)" if kind is ColumnKind.JSON else name for name, kind in COLUMNS.items())
"""What `StoredEvent` is made of. JSON stands as text in the file, for an operator to read."""

INSERT = f"INSERT INTO twofold_events ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"


def _compiled(parameters: str, first: str, rest: dict[str, ColumnKind], row: str) -> Callable[..., Row]:
    """Return a function that makes a row of the table. A loop over the columns takes half as long again."""
    values = (f"{row}.{name}" + (".decode()" if kind is ColumnKind.JSON else "") for name, kind in rest.items())
    return cast("Callable[..., Row]", eval(f"lambda {parameters}: ({first}{', '.join(values)})"))  # noqa: S307


as_inserted: Callable[[StoredEvent], Row] = _compiled("row", "", COLUMNS, "row")
"""Return a row as `INSERT` takes it."""

allotted: Callable[[NewEvent, int, int, int], Row] = _compiled(
    "event, position, version, now",
    f"position, version, now, event[-1] ^ ((position * 31 + version * 17 + now) % {SEAL_MODULUS}), ",  # seal(...)
    BROUGHT,
    "event",
)
"""Return an event as `INSERT` takes it, given its position, its version and the time."""
