"""Statements with `:names`, as all engines share them, run by DuckDB, which spells them `$names`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import duckdb

from twofold.errors import StorageError


def run(connection: duckdb.DuckDBPyConnection, sql: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Run one statement with values for its `:names`, and return its rows."""
    spelled, wanted = _spelled(sql)
    return connection.execute(spelled, {name: values[name] for name in wanted}).fetchall()


def run_to_read(connection: duckdb.DuckDBPyConnection, sql: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Run one SELECT, and return its rows by the names of their columns.

    A transaction that only reads is not enough: COPY, EXPORT and ATTACH write files in it, too.

    Raises:
        StorageError: it is something else.
    """
    statements = connection.extract_statements(_spelled(sql)[0])
    if len(statements) != 1:
        raise StorageError(f"give one statement, not {len(statements)}")
    if (kind := statements[0].type) != duckdb.StatementType.SELECT:
        raise StorageError(f"give a SELECT: {kind.name} is not allowed here")
    connection.execute("BEGIN TRANSACTION READ ONLY")
    try:
        rows = run(connection, sql, values)
        columns = [column[0] for column in connection.description or ()]
        return [dict(zip(columns, row, strict=True)) for row in rows]
    finally:
        connection.execute("ROLLBACK")


@cache
def _spelled(sql: str) -> tuple[str, frozenset[str]]:
    """Return a statement in DuckDB's spelling, and its names: the driver refuses values that are not asked for."""
    mark = re.compile(r"(?<!:):([a-z]\w*)")
    return mark.sub(r"$\1", sql), frozenset(mark.findall(sql))
