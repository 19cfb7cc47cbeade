"""How Python values stand in SQLite's columns."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

from twofold.ports.sql import quoted
from twofold.ports.table import Column, Kind, PlacedChange, Table, changed, restored

TYPES: dict[Kind, str] = {
    Kind.TEXT: "TEXT",
    Kind.INTEGER: "INTEGER",
    Kind.REAL: "REAL",
    Kind.BOOLEAN: "INTEGER",
    Kind.DECIMAL: "TEXT",  # exact; SQLite has no decimal type
    Kind.DATETIME: "TEXT",  # ISO 8601 in UTC with microseconds, so that text order is time order
    Kind.DATE: "TEXT",
    Kind.UUID: "TEXT",
    Kind.JSON: "TEXT",
}
_TO_SQL: dict[Kind, Callable[[Any], Any]] = {
    Kind.DECIMAL: str,
    Kind.DATETIME: lambda moment: moment.astimezone(dt.UTC).isoformat(timespec="microseconds"),
    Kind.DATE: dt.date.isoformat,
    Kind.UUID: str,
}
UNCHANGED = frozenset(Kind) - _TO_SQL.keys()
"""The kinds of columns that SQLite keeps as Python has them."""
_FROM_SQL: dict[Kind, Callable[[Any], Any]] = {
    Kind.BOOLEAN: bool,
    Kind.DECIMAL: Decimal,
    Kind.DATETIME: dt.datetime.fromisoformat,
    Kind.DATE: dt.date.fromisoformat,
    Kind.UUID: UUID,
}


def comparable(column: Column) -> str:
    """Return the expression that sorts and compares a column by value.

    Decimals compare as doubles: exact for up to 15 significant digits.
    """
    name = quoted(column.name)
    return f"CAST({name} AS REAL)" if column.kind is Kind.DECIMAL else name


def to_sql(kind: Kind, value: Any) -> Any:
    """Return a value as SQLite keeps it."""
    convert = _TO_SQL.get(kind)
    return value if value is None or convert is None else convert(value)


def from_sql(kind: Kind, value: Any) -> Any:
    """Return a value that SQLite kept as what it is."""
    convert = _FROM_SQL.get(kind)
    return value if value is None or convert is None else convert(value)


def rows_to_sql(table: Table, rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """Return rows as SQLite keeps them."""
    return changed(rows, _converters(table, to=True))


def rows_from_sql(table: Table, rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """Return rows as Python values.

    Raises:
        DamagedRowError: they are not what was stored.
    """
    return restored(rows, _converters(table, to=False), f"row of {table.name}", table.columns, table.key)


@cache
def _converters(table: Table, *, to: bool) -> list[PlacedChange]:
    by_kind = _TO_SQL if to else _FROM_SQL
    return [(place, by_kind[column.kind]) for place, column in enumerate(table.columns) if column.kind in by_kind]
