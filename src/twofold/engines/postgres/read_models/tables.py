"""The tables of read models on PostgreSQL: made, checked, shown under a lasting name, and dropped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from psycopg.errors import DependentObjectsStillExist

from twofold.engines.postgres.columns import SEARCH, TYPES
from twofold.engines.postgres.connection import Connection
from twofold.errors import InvalidProjectionError
from twofold.ports.sql import names, quoted
from twofold.ports.table import Kind, Table

_COLUMNS = """
    SELECT attname, format_type(atttypid, NULL) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
    FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
_VIEWED = """
    SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
    WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
_SHOWS = """
    SELECT FROM pg_rewrite AS r JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
    WHERE r.ev_class = to_regclass(%(view)s) AND d.refclassid = 'pg_class'::regclass
    AND d.refobjid = to_regclass(%(table)s)"""
_KEY = """
    SELECT attname FROM pg_index, unnest(indkey) WITH ORDINALITY AS k (attnum, place)
    JOIN pg_attribute AS a ON a.attnum = k.attnum AND a.attrelid = to_regclass(%(table)s)
    WHERE indrelid = to_regclass(%(table)s) AND indisprimary ORDER BY place"""
_FULL_TEXT = """
    SELECT col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s"""


async def create(connection: Connection, table: Table) -> None:
    """Make a table with its indexes.

    Raises:
        InvalidProjectionError: there is a table of this name.
    """
    if await _rows(connection, _COLUMNS, quoted(table.name)):
        raise InvalidProjectionError(f"there is a table {table.name} that is no read model; rename the projection")
    columns = [f"{quoted(name)} {definition}" for name, definition in _definitions(table, collated=True)]
    if table.full_text:
        columns.append(f"{SEARCH} tsvector NOT NULL")
    await _execute(
        connection, f"CREATE TABLE {quoted(table.name)} ({', '.join(columns)}, PRIMARY KEY ({names(table.key)}))"
    )
    if table.full_text:
        fields = ",".join(table.full_text)
        await _execute(connection, f"COMMENT ON COLUMN {quoted(table.name)}.{SEARCH} IS '{fields}'")
        await _execute(connection, f"CREATE INDEX ON {quoted(table.name)} USING gin ({SEARCH})")
    await _create_indexes(connection, table)


async def check(connection: Connection, table: Table) -> None:
    """Make sure that a table stands as declared. Only what is missing is made: that takes the table's owner.

    Raises:
        InvalidProjectionError: columns, key or full-text fields differ.
    """
    await _refuse_changes(connection, table)
    await _create_indexes(connection, table)


async def drop(connection: Connection, *names: str) -> None:
    """Drop tables with all that belongs to them, if they are there; they may refer to each other.

    Raises:
        InvalidProjectionError: something that is not Twofold's depends on one of them.
    """
    if names:
        await _drop(connection, "table", *names)


async def empty(connection: Connection, *names: str) -> None:
    """Delete all rows of tables in one statement, at whose end PostgreSQL looks whether they refer to each other."""
    first, *others = names
    deleting = ", ".join(f"deleted_{n} AS (DELETE FROM {quoted(name)})" for n, name in enumerate(others))
    await _execute(connection, f"{f'WITH {deleting} ' if others else ''}DELETE FROM {quoted(first)}")


async def expose(connection: Connection, name: str, table: str) -> None:
    """Let a view show a table. A query on the view waits until then, and sees the new table.

    Raises:
        InvalidProjectionError: something that is not Twofold's depends on what only the earlier view shows.
    """
    there = await _rows(connection, "SELECT relkind = 'v' FROM pg_class WHERE oid = to_regclass(%s)", quoted(name))
    if there == [(False,)]:
        return
    wanted = [column for column in await _rows(connection, _VIEWED, quoted(table)) if column[0] != SEARCH]
    shown = await _rows(connection, _VIEWED, quoted(name))
    if set(shown) == set(wanted) and await _rows(connection, _SHOWS, {"view": quoted(name), "table": quoted(table)}):
        return  # a role that owns nothing can start
    if set(shown) <= set(wanted):  # it is replaced, and views upon it are kept; more columns may only come last
        wanted = [*shown, *(column for column in wanted if column not in shown)]
    else:
        await _drop(connection, "view", name)
    columns = names(column for column, _ in wanted)
    await _execute(connection, f"CREATE OR REPLACE VIEW {quoted(name)} AS SELECT {columns} FROM {quoted(table)}")


async def _create_indexes(connection: Connection, table: Table) -> None:
    """Make an index for each marked field, with the key behind it.

    So a page of what has one value comes from the index in its order; with tenants, a page of a tenant's rows. With
    the field alone, the planner walks through the primary key as long as it has no statistics, which it lacks right
    after a read model was built.
    """
    for field in table.indexes:
        index = quoted(f"{table.name}_by_{field}")
        columns = names(dict.fromkeys((*table.key[: table.has_owner], field, *table.key)))
        if await _rows(connection, "SELECT WHERE to_regclass(%s) IS NULL", index):
            await _execute(connection, f"CREATE INDEX {index} ON {quoted(table.name)} ({columns})")


async def _refuse_changes(connection: Connection, table: Table) -> None:
    name = quoted(table.name)
    there = [(field, kind) for field, kind in await _rows(connection, _COLUMNS, name) if field != SEARCH]
    key = [field for (field,) in await _rows(connection, _KEY, {"table": name})]
    described = await _rows(connection, _FULL_TEXT, name, SEARCH)
    full_text = described[0][0].split(",") if described else []
    layouts = {
        "columns": (there, list(_definitions(table))),
        "key": (key, list(table.key)),
        "full-text fields": (full_text, list(table.full_text)),
    }
    for what, (found, wanted) in layouts.items():
        if found != wanted:
            raise InvalidProjectionError(
                f"the {what} of {table.name} changed from {found} to {wanted}, but not the version of its projection; "
                f"raise `version`, and the read model is built again"
            )


def _definitions(table: Table, *, collated: bool = False) -> Iterator[tuple[str, str]]:
    for column in table.columns:
        # Text sorts by code point, as it does in Python and in SQLite.
        collation = ' COLLATE "C"' if collated and column.kind is Kind.TEXT else ""
        yield column.name, TYPES[column.kind] + collation + ("" if column.nullable else " NOT NULL")


async def _drop(connection: Connection, kind: str, *names: str) -> None:
    name = " and ".join(names)
    try:
        await _execute(connection, f"DROP {kind} IF EXISTS {', '.join(map(quoted, names))}")
    except DependentObjectsStillExist as error:
        found = "; ".join((error.diag.message_detail or str(error)).splitlines())
        raise InvalidProjectionError(
            f"the {kind} {name} has to go, and others depend on it ({found}); drop those, build the read model again, "
            f"and make them again upon its view"
        ) from error


async def _rows(connection: Connection, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
    named = arguments[0] if arguments and isinstance(arguments[0], dict) else arguments
    return await (await connection.execute(sql.encode(), named)).fetchall()


async def _execute(connection: Connection, sql: str, *arguments: Any) -> None:
    await connection.execute(sql.encode(), arguments or None)
