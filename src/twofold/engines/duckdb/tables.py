"""The tables of read models on DuckDB: made, checked, shown under a lasting name, and dropped.

There are no indexes but that of the key: columns are scanned, and what a scan need not look at is skipped by block.
"""

from __future__ import annotations

from collections.abc import Collection

import duckdb

from twofold.engines.duckdb.columns import SEARCH, definitions, is_own
from twofold.errors import InvalidProjectionError
from twofold.ports.sql import names, quoted, referring_first
from twofold.ports.table import Table

Connection = duckdb.DuckDBPyConnection


def create(connection: Connection, table: Table) -> None:
    """Make a table."""
    if table.name in tables(connection):
        raise InvalidProjectionError(f"there is a table {table.name} that is no read model; rename the projection")
    columns = ", ".join(f"{quoted(name)} {definition}" for name, definition in definitions(table))
    connection.execute(f"CREATE TABLE {quoted(table.name)} ({columns}, PRIMARY KEY ({names(table.key)}))")
    if table.full_text:
        fields = ",".join(table.full_text)
        connection.execute(f"COMMENT ON COLUMN {quoted(table.name)}.{SEARCH} IS '{fields}'")


def check(connection: Connection, table: Table) -> None:
    """Make sure that a table stands as declared."""
    found = _rows(
        connection,
        "SELECT column_name, data_type || CASE WHEN is_nullable THEN '' ELSE ' NOT NULL' END, comment"
        " FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index",
        table.name,
    )
    key = _rows(
        connection,
        "SELECT constraint_column_names FROM duckdb_constraints()"
        " WHERE table_name = ? AND constraint_type = 'PRIMARY KEY'",
        table.name,
    )
    comment = next((text for name, _, text in found if name == SEARCH), None)
    layouts = {
        "columns": ([each[:2] for each in found if each[0] != SEARCH], _declared(table)),
        "key": ([*key[0][0]] if key else [], list(table.key)),
        "full-text fields": (comment.split(",") if comment else [], list(table.full_text)),
    }
    for what, (there, wanted) in layouts.items():
        if there != wanted:
            raise InvalidProjectionError(
                f"the {what} of {table.name} changed from {there} to {wanted}, but not the version of its projection; "
                f"raise `version`, and the read model is built again"
            )


def drop(connection: Connection, *dropped: str) -> None:
    """Drop tables, if they are there; they may refer to each other."""
    for name in referring_first(dropped, _references(connection)):
        connection.execute(f"DROP TABLE IF EXISTS {quoted(name)}")


def empty(connection: Connection, *emptied: str) -> None:
    """Delete all rows of tables, which may refer to each other.

    Those are made again: DuckDB still finds rows that refer to others after they were deleted, until the commit.
    """
    references = [pair for pair in _references(connection) if {*pair} <= {*emptied}]
    made = {row[0]: row[1] for row in _rows(connection, "SELECT table_name, sql FROM duckdb_tables()")}
    indexes = _rows(connection, "SELECT table_name, sql FROM duckdb_indexes()")
    in_order = referring_first(emptied, references)
    again = [name for name in reversed(in_order) if any(name in pair for pair in references)]
    for name in in_order:
        connection.execute(f"{'DROP TABLE' if name in again else 'DELETE FROM'} {quoted(name)}")
    for name in again:
        connection.execute(made[name])
        for table, sql in indexes:
            if table == name:
                connection.execute(sql)


def expose(connection: Connection, name: str, table: str) -> None:
    """Let a view show a table, without the columns that only this engine needs; a table of this name is left alone."""
    if name in tables(connection):
        return
    columns = _rows(
        connection, "SELECT column_name FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index", table
    )
    shown = names(column for (column,) in columns if not is_own(column))
    connection.execute(f"CREATE OR REPLACE VIEW {quoted(name)} AS SELECT {shown} FROM {quoted(table)}")


def tables(connection: Connection) -> Collection[str]:
    """Return the names of all tables."""
    return {name for (name,) in _rows(connection, "SELECT table_name FROM duckdb_tables()")}


def views(connection: Connection) -> Collection[str]:
    """Return the names of all views but the engine's own."""
    return {name for (name,) in _rows(connection, "SELECT view_name FROM duckdb_views() WHERE NOT internal")}


def all_names(connection: Connection) -> Collection[str]:
    """Return the names of all tables and views."""
    return {*tables(connection), *views(connection)}


def _declared(table: Table) -> list[tuple[str, str]]:
    return [(name, definition) for name, definition in definitions(table) if name != SEARCH]


def _references(connection: Connection) -> list[tuple[str, str]]:
    found = _rows(
        connection,
        "SELECT table_name, referenced_table FROM duckdb_constraints() WHERE constraint_type = 'FOREIGN KEY'",
    )
    return [(table, referred) for table, referred in found]


def _rows(connection: Connection, sql: str, *arguments: str) -> list[tuple[str, ...]]:
    return connection.execute(sql, arguments).fetchall()
