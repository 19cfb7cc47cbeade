"""Selections and totals in SQL. Names come from the table, values are always parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twofold.engines.postgres.columns import SEARCH, TYPES, in_utc, rows_from_sql, search_expression, selected
from twofold.engines.postgres.connection import Connection
from twofold.engines.postgres.rows import lookup_source, source_statement, source_values
from twofold.ports.read_database import Filter, Found, Lookup, Question, Selection, Source, Sums, Total, Values
from twofold.ports.sql import names, quoted
from twofold.ports.table import Column, Kind, Table

_SOMETHING = {
    Kind.TEXT: "''", Kind.INTEGER: "0", Kind.REAL: "0", Kind.BOOLEAN: "false", Kind.DECIMAL: "0",
    Kind.DATETIME: "'epoch'::timestamptz", Kind.DATE: "'epoch'::date",
    Kind.UUID: "'00000000-0000-0000-0000-000000000000'::uuid",
}  # fmt: skip
"""What stands for NULL where the rows are compared; that it is NULL has been compared before."""


async def read_source(connection: Connection, table: Table, question: Question, source: Source) -> Found:
    """Answer a question and tell how far its source had come, from one snapshot.

    The statements go to the server together where they can: a snapshot for several must not cost a way there each.
    """
    if isinstance(question, Lookup):
        return await lookup_source(connection, table, question, source)
    async with connection.pipeline(), connection.cursor() as cursor:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        try:
            await cursor.execute(source_statement(source).encode(), source_values(source))
            answer = await _answer(connection, table, question)
            row = await cursor.fetchone()
        finally:
            await connection.execute("ROLLBACK")
    assert row is not None  # noqa: S101  # it is an aggregate
    return Found(answer, *row)


async def _answer(connection: Connection, table: Table, question: Selection | Sums) -> Any:
    if isinstance(question, Selection):
        return await select_page(connection, table, question)
    return await select_totals(connection, table, question.by, question.of, question.where)


async def select_page(connection: Connection, table: Table, selection: Selection) -> tuple[Sequence[Values], int]:
    """Return a page of rows, and how many there are in all."""
    conditions, arguments = _conditions(table, selection.where)
    searched: list[Any] = []
    if selection.search:
        searched = [search_expression(selection.search)]
        conditions.append(f"{SEARCH} @@ to_tsquery('simple', %s)" if searched[0] else "false AND %s = ''")
        arguments += searched
    counted = f"SELECT count(*) FROM {quoted(table.name)} {_where(conditions)}"
    counting = await connection.execute(counted.encode(), arguments)
    if selection.beyond:
        condition, values = _beyond(table, selection)
        conditions.append(condition)
        arguments = arguments + values  # the first statement may not be on its way yet
    order, ranked = _order(table, selection), searched if searched and not selection.sort else []
    paging = await connection.execute(
        f"SELECT {selected(table.columns)} FROM {quoted(table.name)} {_where(conditions)}"
        f" ORDER BY {order} LIMIT %s OFFSET %s".encode(),
        [*arguments, *ranked, selection.limit, selection.offset],
    )
    [(total,)] = await counting.fetchall()
    return rows_from_sql(table, await paging.fetchall()), total


async def select_totals(
    connection: Connection, table: Table, by: Sequence[str], of: Sequence[str], where: Sequence[Filter]
) -> Sequence[Total]:
    """Return counts and exact sums, one for each group of rows."""
    conditions, arguments = _conditions(table, where)
    sums = [_sum(_column(table, name)) for name in of]
    columns = [_column(table, name) for name in by]
    grouped = f"GROUP BY {names(by)} ORDER BY {', '.join(_sorted(column, 'ASC') for column in columns)}" if by else ""
    rows = await _rows(
        connection,
        f"SELECT {', '.join(['count(*)', *sums, *map(quoted, by)])} FROM {quoted(table.name)}"
        f" {_where(conditions)} {grouped}",
        arguments,
    )
    return [Total(tuple(map(in_utc, row[1 + len(of) :])), row[0], row[1 : 1 + len(of)]) for row in rows]


def _sum(column: Column) -> str:
    sum_ = f"coalesce(sum({quoted(column.name)}), 0)"
    return f"({sum_})::bigint" if column.kind is Kind.INTEGER else sum_


def _order(table: Table, selection: Selection) -> str:
    direction = "DESC" if selection.descending else "ASC"
    sort = [_sorted(_column(table, name), direction) for name in selection.sort]
    rank = [f"ts_rank({SEARCH}, to_tsquery('simple', %s)) DESC"] if selection.search else []
    return ", ".join(sort or [*rank, *map(quoted, table.key)])


def _sorted(column: Column, direction: str) -> str:
    """NULL sorts before everything else; a column without NULL says nothing of it, so that its index will serve."""
    nulls = (" NULLS FIRST" if direction == "ASC" else " NULLS LAST") if column.nullable else ""
    return f"{quoted(column.name)} {direction}{nulls}"


def _beyond(table: Table, selection: Selection) -> tuple[str, list[Any]]:
    places, marks, values = [], [], []
    for name, value in zip(selection.sort, selection.beyond, strict=True):
        column = _column(table, name)
        if column.nullable:
            places += [f"({quoted(name)} IS NOT NULL)", f"coalesce({quoted(name)}, {_SOMETHING[column.kind]})"]
            marks += ["%s::boolean", f"coalesce({_mark(column)}, {_SOMETHING[column.kind]})"]
            values += [value is not None, value]
        else:
            places.append(quoted(name))
            marks.append(_mark(column))
            values.append(value)
    return f"({', '.join(places)}) {'<' if selection.descending else '>'} ({', '.join(marks)})", values


def _conditions(table: Table, where: Sequence[Filter]) -> tuple[list[str], list[Any]]:
    conditions, arguments = [], []
    for name, operator, value in where:
        column = _column(table, name)
        if operator == "in":
            listed = f"{quoted(name)} = ANY (%s::{TYPES[column.kind]}[])"
            conditions.append(f"({listed} OR {quoted(name)} IS NULL)" if None in value else listed)
            arguments.append([each for each in value if each is not None])
        else:
            spelled = {"=": "IS NOT DISTINCT FROM" if value is None else "=", "!=": "IS DISTINCT FROM"}
            conditions.append(f"{quoted(name)} {spelled.get(operator, operator)} {_mark(column)}")
            arguments.append(value)
    return conditions, arguments


def _mark(column: Column) -> str:
    return f"%s::{TYPES[column.kind]}"


def _where(conditions: Sequence[str]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _column(table: Table, name: str) -> Column:
    return next(column for column in table.columns if column.name == name)


async def _rows(connection: Connection, sql: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
    return await (await connection.execute(sql.encode(), arguments)).fetchall()
