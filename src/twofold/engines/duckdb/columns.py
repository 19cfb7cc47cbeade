"""How Python values stand in DuckDB's columns: as what they are, so that SQL of any tool can work with them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Context, Decimal
from functools import cache
from typing import Any

from twofold.errors import LimitExceededError
from twofold.ports.full_text import searchable
from twofold.ports.sql import quoted
from twofold.ports.table import Column, Kind, Table

SCALE = 9
"""Digits behind the point."""
TYPES: dict[Kind, str] = {
    Kind.TEXT: "VARCHAR",
    Kind.INTEGER: "BIGINT",
    Kind.REAL: "DOUBLE",
    Kind.BOOLEAN: "BOOLEAN",
    Kind.DECIMAL: f"DECIMAL(38,{SCALE})",
    Kind.DATETIME: "TIMESTAMP",  # in UTC; with a time zone, the driver would ask for pytz
    Kind.DATE: "DATE",
    Kind.UUID: "UUID",
    Kind.JSON: "JSON",
}
SEARCH = "search_"
"""The column with the words of the full-text fields, each after a space."""
_EXACT = Context(prec=60)
_LIMIT = Decimal(10) ** (38 - SCALE)

Convert = Callable[[Any], Any]


def digits(column: str) -> str:
    """Return the name of the column that says how many digits of a decimal behind the point were given."""
    return f"{column}_digits_"


def is_own(column: str) -> bool:
    """Return whether only this engine needs a column."""
    return column == SEARCH or column.endswith(digits(""))


def definitions(table: Table) -> Iterator[tuple[str, str]]:
    """Yield the names and types of all columns: first the declared ones, then what only this engine needs."""
    for column in table.columns:
        yield column.name, TYPES[column.kind] + ("" if column.nullable else " NOT NULL")
    for column in _decimals(table):
        yield digits(column.name), "TINYINT" + ("" if column.nullable else " NOT NULL")
    if table.full_text:
        yield SEARCH, "VARCHAR NOT NULL"


def selected(table: Table) -> str:
    """Return the columns that `rows_from_sql` wants."""
    shown = [column.name for column in table.columns] + [digits(column.name) for column in _decimals(table)]
    return ", ".join(f"{quoted(table.name)}.{quoted(name)}" for name in shown)


def to_sql(kind: Kind, value: Any) -> Any:
    """Return a value as DuckDB keeps it.

    Raises:
        LimitExceededError: it does not fit.
    """
    if value is None:
        return None
    if kind is Kind.DATETIME:
        return value.astimezone(dt.UTC).replace(tzinfo=None)
    if kind is Kind.DECIMAL:
        _check_fits(value)
    return value


def from_sql(kind: Kind, value: Any) -> Any:
    """Return a value of a column as what it is. Decimals come without the zeros at their ends."""
    if value is None:
        return None
    if kind is Kind.DATETIME:
        return value.replace(tzinfo=dt.UTC)
    if kind is Kind.DECIMAL:
        return _shortest(value)
    return value


def sum_from_sql(value: Any, most_digits: int | None) -> Decimal:
    """Return the sum of decimals, with as many digits behind the point as the one that had most."""
    return Decimal(0) if value is None else with_digits(value, most_digits or 0)


def with_digits(value: Decimal, count: int) -> Decimal:
    """Return a decimal with `count` digits behind the point."""
    return _EXACT.quantize(value, _unit(count))


def keys_to_sql(table: Table, keys: Iterable[Sequence[Any]]) -> Iterable[Sequence[Any]]:
    """Return keys as DuckDB keeps them.

    Raises:
        LimitExceededError: a value does not fit.
    """
    kinds = [column.kind for name in table.key if (column := table.column(name))]
    if Kind.DATETIME not in kinds and Kind.DECIMAL not in kinds:
        return keys
    return (tuple(map(to_sql, kinds, key)) for key in keys)


def rows_to_sql(table: Table, rows: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    """Yield rows with a value for each of the `definitions`.

    Raises:
        LimitExceededError: a value does not fit.
    """
    moments, decimals, texts = _places(table)
    for row in rows:
        values = list(row)
        for place in moments:
            values[place] = to_sql(Kind.DATETIME, values[place])
        for place in decimals:
            text, count = (None, None) if row[place] is None else _written(row[place])
            values[place] = text  # from text, the driver makes a decimal in a third of the time
            values.append(count)
        if table.full_text:
            values.append(f" {searchable(row[place] for place in texts)}")
        yield values


def rows_from_sql(table: Table, rows: Iterable[Sequence[Any]]) -> list[Sequence[Any]]:
    """Return rows of the columns `selected` as Python values."""
    moments, decimals, _ = _places(table)
    width = len(table.columns)
    if not moments and not decimals:
        return list(rows)
    found: list[Sequence[Any]] = []
    for row in rows:
        values = list(row[:width])
        for place in moments:
            values[place] = from_sql(Kind.DATETIME, values[place])
        for place, given in zip(decimals, row[width:], strict=True):
            values[place] = None if given is None else with_digits(row[place], given)
        found.append(values)
    return found


def fits(value: Decimal) -> bool:
    """Return whether a decimal can be kept exactly."""
    if not value.is_finite() or abs(value) >= _LIMIT:
        return False
    return value.as_tuple().exponent >= -SCALE or with_digits(value, SCALE) == value  # type: ignore[operator]


def _written(value: Decimal) -> tuple[str, int]:
    """Return a decimal as text, and how many digits behind the point it has; below zero for one such as 1E+2."""
    text = str(value)
    whole, _, fraction = text.partition(".")
    if "E" not in text and len(whole) <= 38 - SCALE and len(fraction) <= SCALE and value.is_finite():
        return text, len(fraction)
    _check_fits(value)
    return f"{value:f}", min(max(-int(value.as_tuple().exponent), -SCALE), 30)


def _check_fits(value: Decimal) -> None:
    if not fits(value):
        raise LimitExceededError(
            f"DuckDB keeps decimals of {38 - SCALE} digits before and {SCALE} behind the point, and no more: {value}; "
            f"quantize it, or declare a float"
        )


def _shortest(value: Decimal) -> Decimal:
    """Return a decimal as DuckDB keeps it, without zeros at its end."""
    rounded = with_digits(value, SCALE).normalize(_EXACT)
    return with_digits(rounded, 0) if rounded == rounded.to_integral_value() else rounded


@cache
def _unit(count: int) -> Decimal:
    return Decimal(1).scaleb(-count)


def _decimals(table: Table) -> list[Column]:
    return [column for column in table.columns if column.kind is Kind.DECIMAL]


@cache
def _places(table: Table) -> tuple[list[int], list[int], list[int]]:
    """Return where there are moments, decimals and full text."""
    columns = list(enumerate(table.columns))
    return (
        [place for place, column in columns if column.kind is Kind.DATETIME],
        [place for place, column in columns if column.kind is Kind.DECIMAL],
        [place for place, column in columns if column.name in table.full_text],
    )
