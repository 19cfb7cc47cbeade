"""Selections and totals in SQL. Names come from the table, values are always parameters."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from twofold.read_database import Filter, Selection, Total, Values
from twofold.row_type import Column, Kind, Table
from twofold.sqlite.columns import comparable, names, quoted, rows_from_sql, to_sql


def select_page(connection: sqlite3.Connection, table: Table, selection: Selection) -> tuple[Sequence[Values], int]:
    """See `ReadDatabase.select`."""
    source, conditions, arguments = quoted(table.name), *_conditions(table, selection.where)
    if selection.search:
        found = f"SELECT rowid AS found, rank FROM {table.name}_search WHERE {table.name}_search MATCH ?"
        source += f" JOIN ({found}) ON found = row_number_"
        arguments.insert(0, match_expression(selection.search))
    counted = f"SELECT count(*) FROM {source} {_where(conditions)}"
    total = connection.execute(counted, arguments).fetchone()[0]
    direction = "DESC" if selection.descending else "ASC"
    sort = [_column(table, name) for name in selection.sort]
    if selection.beyond:
        order, marks = ", ".join(map(comparable, sort)), ", ".join(map(_mark, sort))
        conditions.append(f"({order}) {'<' if selection.descending else '>'} ({marks})")
        arguments += [to_sql(column.kind, value) for column, value in zip(sort, selection.beyond, strict=True)]
    fields = names(column.name for column in table.columns)
    order = ", ".join(f"{comparable(column)} {direction}" for column in sort) or "rank"
    rows = connection.execute(
        f"SELECT {fields} FROM {source} {_where(conditions)} ORDER BY {order} LIMIT ? OFFSET ?",
        (*arguments, selection.limit, selection.offset),
    )
    return rows_from_sql(table, rows), total


def select_totals(
    connection: sqlite3.Connection, table: Table, by: Sequence[str], of: str, where: Sequence[Filter]
) -> Sequence[Total]:
    """See `ReadDatabase.totals`."""
    connection.create_aggregate("twofold_decimal_sum", 1, _DecimalSum)  # type: ignore[arg-type]
    exact = _column(table, of).kind is Kind.DECIMAL
    conditions, arguments = _conditions(table, where)
    groups = names(by)
    rows = connection.execute(
        f"SELECT count(*), {'twofold_decimal_sum' if exact else 'sum'}({quoted(of)}), {groups}"
        f" FROM {quoted(table.name)} {_where(conditions)} GROUP BY {groups} ORDER BY {groups}",
        arguments,
    )
    return [Total(tuple(group), count, Decimal(sum_) if exact else sum_) for count, sum_, *group in rows]


def match_expression(text: str) -> str:
    """Return FTS5's expression for "all of these words, each perhaps cut short"; what a user types is never syntax."""
    words = re.findall(r"\w+", text)
    return " ".join(f'"{word}"*' for word in words) or '""'


class _DecimalSum:
    def __init__(self) -> None:
        self._sum = Decimal(0)

    def step(self, value: str | None) -> None:
        if value is not None:
            self._sum += Decimal(value)

    def finalize(self) -> str:
        return str(self._sum)


def _conditions(table: Table, where: Sequence[Filter]) -> tuple[list[str], list[Any]]:
    conditions, arguments = [], []
    for name, operator, value in where:
        column = _column(table, name)
        if operator == "in":
            values = [to_sql(column.kind, each) for each in value]
            conditions.append(f"{comparable(column)} IN ({', '.join(_mark(column) for _ in values)})")
            arguments += values
        elif value is None:
            conditions.append(f"{quoted(column.name)} IS {'NOT ' if operator == '!=' else ''}NULL")
        else:
            conditions.append(f"{comparable(column)} {operator} {_mark(column)}")
            arguments.append(to_sql(column.kind, value))
    return conditions, arguments


def _where(conditions: Sequence[str]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _mark(column: Column) -> str:
    return "CAST(? AS REAL)" if column.kind is Kind.DECIMAL else "?"


def _column(table: Table, name: str) -> Column:
    return next(column for column in table.columns if column.name == name)
