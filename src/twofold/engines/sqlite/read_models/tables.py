"""The tables of read models on SQLite: made, checked, shown under a lasting name, and dropped."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from twofold.engines.sqlite.columns import TYPES, comparable
from twofold.errors import InvalidProjectionError
from twofold.ports.sql import names, quoted, referring_first
from twofold.ports.table import Table


def create(connection: sqlite3.Connection, table: Table) -> None:
    """Make a table with its indexes."""
    if _columns(connection, table):
        raise InvalidProjectionError(f"there is a table {table.name} that is no read model; rename the projection")
    columns = ", ".join(f"{quoted(name)} {definition}" for name, definition in _definitions(table))
    # `row_number_` is an alias of the rowid, which the full-text index refers to; without it, VACUUM could renumber.
    connection.execute(
        f"CREATE TABLE {quoted(table.name)}"
        f" (row_number_ INTEGER PRIMARY KEY, {columns}, UNIQUE ({names(table.key)})) STRICT"
    )
    _create_indexes(connection, table)
    if table.full_text:
        for statement in _full_text(table):
            connection.execute(statement)


def check(connection: sqlite3.Connection, table: Table) -> None:
    """Make sure that a table stands as declared, and add the indexes that it lacks."""
    _refuse_changes(connection, table)
    _create_indexes(connection, table)


def drop(connection: sqlite3.Connection, *tables: str) -> None:
    """Drop tables with their full-text indexes, if they are there; they may refer to each other."""
    for name in _referring_first(connection, tables):
        connection.execute(f"DROP TABLE IF EXISTS {quoted(f'{name}_search')}")
        connection.execute(f"DROP TABLE IF EXISTS {quoted(name)}")


def empty(connection: sqlite3.Connection, *tables: str) -> None:
    """Delete all rows of tables, which may refer to each other."""
    for name in _referring_first(connection, tables):
        connection.execute(f"DELETE FROM {quoted(name)}")


def _referring_first(connection: sqlite3.Connection, tables: Sequence[str]) -> list[str]:
    connection.execute("PRAGMA defer_foreign_keys = ON")  # until the commit: for those that refer to each other
    found = [
        (name, row[2])
        for name in tables
        for row in connection.execute(f"PRAGMA foreign_key_list({quoted(name)})").fetchall()
    ]
    return referring_first(tables, found)


def expose(connection: sqlite3.Connection, name: str, table: str) -> None:
    """Let a view show a table; a table of this name is left alone."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = ? AND type = 'table'", (name,)).fetchone():
        return
    connection.execute(f"DROP VIEW IF EXISTS {quoted(name)}")
    columns = [column for column in _column_names(connection, table) if column != "row_number_"]
    connection.execute(f"CREATE VIEW {quoted(name)} AS SELECT {names(columns)} FROM {quoted(table)}")


def _create_indexes(connection: sqlite3.Connection, table: Table) -> None:
    for column in table.columns:
        if column.name in table.indexes:
            index = quoted(f"{table.name}_by_{column.name}")
            owner = f"{quoted(table.key[0])}, " if table.has_owner else ""
            columns = f"{owner}{comparable(column)}"
            connection.execute(f"CREATE INDEX IF NOT EXISTS {index} ON {quoted(table.name)} ({columns})")


def _refuse_changes(connection: sqlite3.Connection, table: Table) -> None:
    layouts = {
        "columns": (_columns(connection, table), list(_definitions(table))),
        "key": (_key(connection, table), list(table.key)),
        "full-text fields": (_column_names(connection, f"{table.name}_search"), list(table.full_text)),
    }
    for what, (there, wanted) in layouts.items():
        if there != wanted:
            raise InvalidProjectionError(
                f"the {what} of {table.name} changed from {there} to {wanted}, but not the version of its projection; "
                f"raise `version`, and the read model is built again"
            )


def _key(connection: sqlite3.Connection, table: Table) -> list[str]:
    indexes = connection.execute(f"PRAGMA index_list({quoted(table.name)})").fetchall()
    own = next(name for _, name, _, origin, _ in indexes if origin == "u")
    return [name for _, _, name in connection.execute(f"PRAGMA index_info({quoted(own)})")]


def _column_names(connection: sqlite3.Connection, table_name: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({quoted(table_name)})")]


def _definitions(table: Table) -> Iterator[tuple[str, str]]:
    for column in table.columns:
        yield column.name, TYPES[column.kind] + ("" if column.nullable else " NOT NULL")


def _columns(connection: sqlite3.Connection, table: Table) -> list[tuple[str, str]]:
    found = connection.execute(f"PRAGMA table_info({quoted(table.name)})").fetchall()
    return [(name, kind + (" NOT NULL" if notnull else "")) for _, name, kind, notnull, _, _ in found[1:]]


def _full_text(table: Table) -> Iterator[str]:
    """Yield what keeps an FTS5 index in step with the table (https://sqlite.org/fts5.html, external content)."""
    name, index = quoted(table.name), f"{table.name}_search"
    fields, old, new = names(table.full_text), names(table.full_text, "old."), names(table.full_text, "new.")
    remove = f"INSERT INTO {index} ({index}, rowid, {fields}) VALUES ('delete', old.row_number_, {old});"
    add = f"INSERT INTO {index} (rowid, {fields}) VALUES (new.row_number_, {new});"
    changed = " OR ".join(f"old.{quoted(field)} IS NOT new.{quoted(field)}" for field in table.full_text)
    yield (
        f"CREATE VIRTUAL TABLE {index} USING fts5 ({fields}, content='{table.name}', content_rowid='row_number_',"
        f" tokenize='unicode61 remove_diacritics 2')"
    )
    yield f"CREATE TRIGGER {index}_insert AFTER INSERT ON {name} BEGIN {add} END"
    yield f"CREATE TRIGGER {index}_delete AFTER DELETE ON {name} BEGIN {remove} END"
    yield f"CREATE TRIGGER {index}_update AFTER UPDATE ON {name} WHEN {changed} BEGIN {remove} {add} END"
