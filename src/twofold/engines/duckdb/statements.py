"""Statements with `:names`, as all engines share them, run by DuckDB, which spells them `$names`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, cast

import duckdb
import msgspec

from twofold.errors import StorageError

SOURCES = frozenset({"generate_series", "json_each", "json_tree", "range", "repeat", "repeat_row", "unnest"})
"""The table functions that a SELECT may read from. All others are refused: most read files, some write them
(`enable_logging`), change the connection (`enable_profiling`), or run SQL that was not looked at (`query`)."""
REFUSED = frozenset({"nextval", "setseed", "setval", "sleep_ms", "write_log"})
"""Functions with effects beyond the answer."""


def run(connection: duckdb.DuckDBPyConnection, sql: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Run one statement with values for its `:names`, and return its rows."""
    spelled, wanted = _spelled(sql)
    return connection.execute(spelled, {name: values[name] for name in wanted}).fetchall()


def run_to_read(connection: duckdb.DuckDBPyConnection, sql: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Run one SELECT over tables and views, and return its rows by the names of their columns.

    A transaction that only reads is not enough: COPY, EXPORT and ATTACH write files in it, too, and so do functions.

    Raises:
        StorageError: it is something else, or reads from a file or a function that is not allowed.
    """
    statements = connection.extract_statements(_spelled(sql)[0])
    if len(statements) != 1:
        raise StorageError(f"give one statement, not {len(statements)}")
    if (kind := statements[0].type) != duckdb.StatementType.SELECT:
        raise StorageError(f"give a SELECT: {kind.name} is not allowed here")
    _refuse_effects(connection, _spelled(sql)[0])
    connection.execute("BEGIN TRANSACTION READ ONLY")
    try:
        rows = run(connection, sql, values)
        columns = [column[0] for column in connection.description or ()]
        return [dict(zip(columns, row, strict=True)) for row in rows]
    finally:
        connection.execute("ROLLBACK")


def _refuse_effects(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Refuse a SELECT that does more than read tables, by the tree that DuckDB's own parser makes of it."""
    [(text,)] = connection.execute("SELECT json_serialize_sql($sql)", {"sql": sql}).fetchall()
    try:
        tree = msgspec.json.decode(text)
    except RecursionError:
        raise StorageError("give a SELECT that nests its expressions less deeply") from None
    if tree["error"]:
        raise StorageError(f"give a SELECT that can be checked: {tree.get('error_message')}")
    for kind, name in _names(tree):
        if kind == "TABLE_FUNCTION" and name not in SOURCES:
            raise StorageError(f"give a SELECT over tables: the function {name} is not allowed here")
        if kind == "FUNCTION" and name in REFUSED:
            raise StorageError(f"give a SELECT without effects: the function {name} is not allowed here")
        if kind == "BASE_TABLE" and re.search(r"[./\\:*?]", name):
            raise StorageError(f"give a SELECT over tables: {name!r} would be read as a file")


def _names(tree: object) -> Iterator[tuple[str, str]]:
    """Iterate over all tables and functions that a tree names, with their kinds."""
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, list):
            nodes += node
        elif isinstance(node, dict):
            known = cast(dict[str, Any], node)
            nodes += known.values()
            match known.get("type"):
                case "TABLE_FUNCTION":
                    yield "TABLE_FUNCTION", str(known["function"]["function_name"]).lower()
                case "FUNCTION":
                    yield "FUNCTION", str(known["function_name"]).lower()
                case "BASE_TABLE":
                    yield "BASE_TABLE", str(known["table_name"])


@lru_cache(1000)
def _spelled(sql: str) -> tuple[str, frozenset[str]]:
    """Return a statement in DuckDB's spelling, and its names: the driver refuses values that are not asked for."""
    mark = re.compile(r"(?<!:):([a-z]\w*)")
    return mark.sub(r"$\1", sql), frozenset(mark.findall(sql))
