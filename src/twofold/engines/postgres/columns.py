"""How Python values stand in PostgreSQL's columns, and searches as its full-text index reads them."""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from twofold.engines.postgres.wire.arrays import INT8, TEXT, Binary, array, int8s
from twofold.ports.full_text import search_words
from twofold.ports.sql import names, quoted
from twofold.ports.table import Column, Kind, Table, changed

TYPES: dict[Kind, str] = {
    Kind.TEXT: "text",
    Kind.INTEGER: "bigint",
    Kind.REAL: "double precision",
    Kind.BOOLEAN: "boolean",
    Kind.DECIMAL: "numeric",
    Kind.DATETIME: "timestamp with time zone",
    Kind.DATE: "date",
    Kind.UUID: "uuid",
    Kind.JSON: "json",  # `jsonb` makes 1e16 a number without a fraction, and puts the keys of a dict into another order
}
SEARCH = "search_"
"""The column of the full-text index."""
_bigint = struct.Struct("!q").pack


def selected(columns: Iterable[Column]) -> str:
    """Return the columns as a SELECT names them. JSON comes as text: decoding is the row type's."""
    return ", ".join(f"{quoted(c.name)}{'::text' if c.kind is Kind.JSON else ''}" for c in columns)


def rows_from_sql(table: Table, rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """Return rows as Python values, with times in UTC, whatever the session's time zone is."""
    return changed(
        rows, [(place, in_utc) for place, column in enumerate(table.columns) if column.kind is Kind.DATETIME]
    )


def in_utc(value: Any) -> Any:
    """Return a time in UTC, and any other value unchanged."""
    return value.astimezone(dt.UTC) if isinstance(value, dt.datetime) else value


def unnested(columns: Sequence[Column], alias: str, marks: Sequence[str], *, numbered: bool = False) -> str:
    """Return a FROM item that makes rows of one parameter for each column, as `as_arrays` gives them.

    Args:
        columns: of the rows.
        alias: the name of the item.
        marks: of the parameters.
        numbered: whether a last column, `twofold_number`, counts the rows from 1.
    """
    kinds = ("bigint" if c.kind is Kind.INTEGER else "text" for c in columns)
    arrays = ", ".join(f"{mark}::{kind}[]" for mark, kind in zip(marks, kinds, strict=True))
    values = ", ".join(f"{quoted(c.name)}::{TYPES[c.kind]}" for c in columns)
    listed = names(c.name for c in columns)
    if numbered:
        values, listed = f"{values}, twofold_number", f"{listed}, twofold_number"
    ordinality = " WITH ORDINALITY" if numbered else ""
    return f"(SELECT {values} FROM unnest({arrays}){ordinality} AS given ({listed})) AS {alias} ({listed})"


def as_arrays(columns: Sequence[Column], rows: Collection[Sequence[Any]]) -> list[Binary]:
    """Return an array for each column: of bigint, or of text, which the server casts.

    Raises:
        AttributeError, UnicodeError, struct.error: a value is of another type than its column, or out of its range.
    """
    by_column = zip(*rows, strict=True) if rows else [()] * len(columns)
    return [_as_array(column.kind, values) for column, values in zip(columns, by_column, strict=True)]


_PARSED: dict[Kind, Callable[[str], object]] = {
    Kind.UUID: UUID,
    Kind.DATETIME: dt.datetime.fromisoformat,
    Kind.DATE: dt.date.fromisoformat,
    Kind.DECIMAL: Decimal,
    Kind.REAL: float,
}


def fits(kind: Kind, value: Any) -> bool:
    """Return whether a column of this kind may hold a value: of another one, the server refuses the whole statement."""
    text = str(value)
    try:
        _PARSED.get(kind, str)(text)
    except (ValueError, ArithmeticError):
        return False
    return "\0" not in text


def search_expression(text: str) -> str:
    """Return the tsquery for "all of these words, each perhaps cut short"; empty if there is no word to look for."""
    return " & ".join(f"'{word}':*" for word in search_words(text))


def _as_array(kind: Kind, values: Sequence[Any]) -> Binary:
    if kind is Kind.INTEGER:
        return array([None if v is None else _bigint(v) for v in values], INT8) if None in values else int8s(values)
    if kind not in (Kind.TEXT, Kind.JSON):
        values = [None if value is None else str(value) for value in values]
    return array([None if value is None else value.encode() for value in values], TEXT)
