"""Selections and totals in SQL. Names come from the table, values are always parameters."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any
from unicodedata import normalize

from twofold.engines.sqlite.columns import comparable, from_sql, rows_from_sql, to_sql
from twofold.engines.sqlite.rows import load_rows
from twofold.ports.checkpoints import SQL
from twofold.ports.full_text import MAX_WORDS
from twofold.ports.read_database import Filter, Found, Lookup, Question, Selection, Source, Sums, Total, Values
from twofold.ports.sql import names, quoted
from twofold.ports.table import Column, Kind, Table

_EXACT = Context(prec=1000)


def read_source(connection: sqlite3.Connection, table: Table, question: Question, source: Source) -> Found:
    """Answer a question and tell how far its source had come, from one snapshot."""
    connection.execute("BEGIN")
    try:
        values = {**source._asdict(), "name": source.projection, "slot": source.slot}
        [(position, furthest, has_parked)] = connection.execute(
            SQL["source" if source.generation else "serving_source"], values
        ).fetchall()
        return Found(_answer(connection, table, question), position, furthest, bool(has_parked))
    finally:
        connection.execute("ROLLBACK")


def _answer(connection: sqlite3.Connection, table: Table, question: Question) -> Any:
    match question:
        case Lookup():
            return load_rows(connection, table, question.keys)
        case Selection():
            return select_page(connection, table, question)
        case Sums():
            return select_totals(connection, table, question.by, question.of, question.where)


def select_page(connection: sqlite3.Connection, table: Table, selection: Selection) -> tuple[Sequence[Values], int]:
    """Return the selected rows, and how many there are without limit, offset and `beyond`."""
    source, (conditions, arguments) = quoted(table.name), _conditions(table, selection.where)
    if selection.search:
        found = f"SELECT rowid AS row_number, rank FROM {table.name}_search WHERE {table.name}_search MATCH ?"
        source += f" JOIN ({found}) twofold_hit ON twofold_hit.row_number = row_number_"
        arguments.insert(0, match_expression(selection.search))
    counted = f"SELECT count(*) FROM {source} {_where(conditions)}"
    total = connection.execute(counted, arguments).fetchone()[0]
    direction = "DESC" if selection.descending else "ASC"
    sort = [_column(table, name) for name in selection.sort]
    if selection.beyond:
        places = [place for column in sort for place in _places(column)]
        marks = [mark for column in sort for mark in _place_marks(column)]
        conditions.append(f"({', '.join(places)}) {'<' if selection.descending else '>'} ({', '.join(marks)})")
        for column, value in zip(sort, selection.beyond, strict=True):
            arguments += [value is not None] * column.nullable + [to_sql(column.kind, value)]
    fields = names((column.name for column in table.columns), f"{quoted(table.name)}.")
    by_default = ["twofold_hit.rank"] * bool(selection.search) + [
        comparable(_column(table, name)) for name in table.key
    ]
    order = ", ".join([f"{comparable(column)} {direction}" for column in sort] or by_default)
    rows = connection.execute(
        f"SELECT {fields} FROM {source} {_where(conditions)} ORDER BY {order} LIMIT ? OFFSET ?",
        (*arguments, selection.limit, selection.offset),
    )
    return rows_from_sql(table, rows.fetchall()), total


def select_totals(
    connection: sqlite3.Connection, table: Table, by: Sequence[str], of: Sequence[str], where: Sequence[Filter]
) -> Sequence[Total]:
    """Return the count and the exact sums of fields for each group of rows."""
    connection.create_aggregate("twofold_decimal_sum", 1, _DecimalSum)  # type: ignore[arg-type]
    summed = [_column(table, name) for name in of]
    columns = [_column(table, name) for name in by]
    conditions, arguments = _conditions(table, where)
    groups = ", ".join(map(comparable, columns))
    rows = connection.execute(
        f"SELECT {', '.join(['count(*)', *map(_sum, summed), *map(quoted, by)])} FROM {quoted(table.name)}"
        f" {_where(conditions)} {f'GROUP BY {groups} ORDER BY {groups}' if by else ''}",
        arguments,
    )
    return [Total(_group(columns, row[1 + len(of) :]), row[0], _group(summed, row[1 : 1 + len(of)])) for row in rows]


def _sum(column: Column) -> str:
    return f"ifnull({'twofold_decimal_sum' if column.kind is Kind.DECIMAL else 'sum'}({quoted(column.name)}), 0)"


def _group(columns: Sequence[Column], values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(from_sql(column.kind, value) for column, value in zip(columns, values, strict=True))


def match_expression(text: str) -> str:
    """Return FTS5's expression for "all of these words, each perhaps cut short"; what a user types is never syntax."""
    words = re.findall(r"[^\W_]+", normalize("NFC", text))[:MAX_WORDS]
    return " ".join(f'"{word}"*' for word in words) or '""'


class _DecimalSum:
    def __init__(self) -> None:
        self._sum = Decimal(0)

    def step(self, value: str | None) -> None:
        if value is not None:
            self._sum = _EXACT.add(self._sum, Decimal(value))

    def finalize(self) -> str:
        return str(self._sum)


def _conditions(table: Table, where: Sequence[Filter]) -> tuple[list[str], list[Any]]:
    conditions, arguments = [], []
    for name, operator, value in where:
        column = _column(table, name)
        if operator == "in":
            values = [to_sql(column.kind, each) for each in value if each is not None]
            listed = f"{comparable(column)} IN ({', '.join(_mark(column) for _ in values)})"
            conditions.append(f"({listed} OR {quoted(name)} IS NULL)" if None in value else listed)
            arguments += values
        elif value is None:
            conditions.append(f"{quoted(name)} IS {'NOT ' if operator == '!=' else ''}NULL")
        else:
            conditions.append(f"{comparable(column)} {'IS NOT' if operator == '!=' else operator} {_mark(column)}")
            arguments.append(to_sql(column.kind, value))
    return conditions, arguments


def _places(column: Column) -> list[str]:
    """Return the expressions whose order is the column's, with NULL before all else, but which are never NULL."""
    value = comparable(column)
    return [f"{quoted(column.name)} IS NOT NULL", f"ifnull({value}, 0)"] if column.nullable else [value]


def _place_marks(column: Column) -> list[str]:
    return ["?", f"ifnull({_mark(column)}, 0)"] if column.nullable else [_mark(column)]


def _where(conditions: Sequence[str]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _mark(column: Column) -> str:
    return "CAST(? AS REAL)" if column.kind is Kind.DECIMAL else "?"


def _column(table: Table, name: str) -> Column:
    return next(column for column in table.columns if column.name == name)
