"""Selections and totals in SQL. Names come from the table, values are always parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

import duckdb

from twofold.engines.duckdb.columns import (
    SEARCH,
    TYPES,
    digits,
    fits,
    from_sql,
    rows_from_sql,
    selected,
    sum_from_sql,
    to_sql,
)
from twofold.engines.duckdb.rows import load_rows
from twofold.engines.duckdb.statements import run
from twofold.ports.checkpoints import SQL
from twofold.ports.full_text import search_words
from twofold.ports.read_database import Filter, Found, Lookup, Question, Selection, Source, Sums, Total, Values
from twofold.ports.sql import names, quoted
from twofold.ports.table import Column, Kind, Table

Connection = duckdb.DuckDBPyConnection


def read_source(connection: Connection, table: Table, question: Question, source: Source) -> Found:
    """Answer a question and tell how far its source had come, from one snapshot."""
    connection.execute("BEGIN")
    try:
        values = {**source._asdict(), "name": source.projection, "slot": source.slot}
        [(position, furthest, has_parked)] = run(
            connection, SQL["source" if source.generation else "serving_source"], values
        )
        return Found(answer(connection, table, question), position, furthest, has_parked)
    finally:
        with suppress(duckdb.TransactionException):  # what failed has ended it
            connection.execute("ROLLBACK")


def answer(connection: Connection, table: Table, question: Question) -> Any:
    """Return what answers a question."""
    match question:
        case Lookup():
            return load_rows(connection, table, question.keys)
        case Selection():
            return select_page(connection, table, question)
        case Sums():
            return select_totals(connection, table, question.by, question.of, question.where)


def select_page(connection: Connection, table: Table, selection: Selection) -> tuple[Sequence[Values], int]:
    """Return the selected rows, and how many there are without limit, offset and `beyond`."""
    conditions, arguments = _conditions(table, selection.where)
    words = search_words(selection.search) if selection.search else []
    if selection.search:
        conditions += [f"contains({SEARCH}, ?)" for _ in words] or ["false"]
        arguments += [f" {word}" for word in words]
    source = f"FROM {quoted(table.name)}"
    counted = connection.execute(f"SELECT count(*) {source} {_where(conditions)}", arguments).fetchall()
    if selection.beyond:
        condition, values = _beyond(table, selection)
        conditions.append(condition)
        arguments += values
    order, ranked = _order(table, selection, words)
    rows = connection.execute(
        f"SELECT {selected(table)} {source} {_where(conditions)} ORDER BY {order} LIMIT ? OFFSET ?",
        [*arguments, *ranked, selection.limit, selection.offset],
    ).fetchall()
    return rows_from_sql(table, rows), counted[0][0]


def select_totals(
    connection: Connection, table: Table, by: Sequence[str], of: Sequence[str], where: Sequence[Filter]
) -> Sequence[Total]:
    """Return the count and the exact sums of fields for each group of rows."""
    summed, columns = [_column(table, name) for name in of], [_column(table, name) for name in by]
    conditions, arguments = _conditions(table, where)
    order = ", ".join(f"{quoted(name)} NULLS FIRST" for name in by)
    rows = connection.execute(
        f"SELECT {', '.join(['count(*)', *map(quoted, by), *map(_sum, summed)])} FROM {quoted(table.name)}"
        f" {_where(conditions)} {f'GROUP BY {names(by)} ORDER BY {order}' if by else ''}",
        arguments,
    ).fetchall()
    end, kinds = 1 + len(by), [column.kind for column in columns]
    load_sums = _loader([column.kind for column in summed])
    if Kind.DATETIME in kinds or Kind.DECIMAL in kinds:
        return [Total(tuple(map(from_sql, kinds, row[1:end])), row[0], load_sums(row[end:])) for row in rows]
    return [Total(row[1:end], row[0], load_sums(row[end:])) for row in rows]


def _sum(column: Column) -> str:
    name = quoted(column.name)
    if column.kind is Kind.DECIMAL:
        return f"sum({name}), max({quoted(digits(column.name))})"
    return f"CAST(coalesce(sum({name}), 0) AS {TYPES[column.kind]})"


def _loader(kinds: Sequence[Kind]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Return a function from the values of `_sum` for each kind to the sums."""
    places = [place + sum(kind is Kind.DECIMAL for kind in kinds[:place]) for place in range(len(kinds))]
    wanted = [(place, kind is Kind.DECIMAL) for place, kind in zip(places, kinds, strict=True)]

    def load(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(
            [sum_from_sql(values[place], values[place + 1]) if exact else values[place] for place, exact in wanted]
        )

    return load


def _order(table: Table, selection: Selection, words: Sequence[str]) -> tuple[str, list[Any]]:
    direction = "DESC" if selection.descending else "ASC"
    nulls = "LAST" if selection.descending else "FIRST"
    sort = [f"{quoted(name)} {direction} NULLS {nulls}" for name in selection.sort]
    if sort or not words:
        return ", ".join(sort or map(quoted, table.key)), []
    # How much of the text is made up of the words that are looked for.
    found = " + ".join(f"(length({SEARCH}) - length(replace({SEARCH}, ?, '')))" for _ in words)
    rank = f"({found}) / length({SEARCH}) DESC"
    return ", ".join([rank, *map(quoted, table.key)]), [f" {word}" for word in words]


def _beyond(table: Table, selection: Selection) -> tuple[str, list[Any]]:
    """Return the condition for rows that come after others, field by field; NULL comes before all else."""
    alternatives, arguments = [], list[Any]()
    given = [(_column(table, name), value) for name, value in zip(selection.sort, selection.beyond, strict=True)]
    for place, (column, value) in enumerate(given):
        same = [f"{quoted(each.name)} IS NOT DISTINCT FROM {_mark(each)}" for each, _ in given[:place]]
        alternatives.append(" AND ".join([*same, _follows(column, value, descending=selection.descending)]))
        arguments += [to_sql(each.kind, known) for each, known in given[:place]]
        arguments += [] if value is None else [to_sql(column.kind, value)]
    return f"({' OR '.join(f'({each})' for each in alternatives)})", arguments


def _follows(column: Column, value: Any, *, descending: bool) -> str:
    name = quoted(column.name)
    if value is None:
        return "false" if descending else f"{name} IS NOT NULL"
    if descending:
        return f"({name} < {_mark(column)} OR {name} IS NULL)"
    return f"{name} > {_mark(column)}"


def _conditions(table: Table, where: Sequence[Filter]) -> tuple[list[str], list[Any]]:
    conditions, arguments = list[str](), list[Any]()
    for name, operator, value in where:
        column = _column(table, name)
        if operator == "in":
            listed = f"{quoted(name)} IN (SELECT unnest(?::{TYPES[column.kind]}[]))"
            conditions.append(f"({listed} OR {quoted(name)} IS NULL)" if None in value else listed)
            arguments.append([to_sql(column.kind, each) for each in value if each is not None and _is_exact(each)])
        elif not _is_exact(value):
            conditions.append(f"{quoted(name)}::DOUBLE {operator} ?")
            arguments.append(float(value))
        else:
            spelled = {"=": "IS NOT DISTINCT FROM" if value is None else "=", "!=": "IS DISTINCT FROM"}
            conditions.append(f"{quoted(name)} {spelled.get(operator, operator)} {_mark(column)}")
            arguments.append(to_sql(column.kind, value))
    return conditions, arguments


def _is_exact(value: Any) -> bool:
    """Return whether a value of a filter is one that the column could hold exactly."""
    return not isinstance(value, Decimal) or fits(value)


def _mark(column: Column) -> str:
    return f"?::{TYPES[column.kind]}"


def _where(conditions: Sequence[str]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _column(table: Table, name: str) -> Column:
    return next(column for column in table.columns if column.name == name)
