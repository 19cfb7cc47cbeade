"""Rows of read models on a connection of PostgreSQL: loaded, and written with the step of their segment."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

import psycopg
from psycopg import AsyncCursor
from psycopg.rows import tuple_row

from twofold.engines.postgres.columns import SEARCH, as_arrays, fits, rows_from_sql, selected, unnested
from twofold.engines.postgres.connection import BoundedConnection, Connection
from twofold.engines.postgres.errors import is_about_the_data
from twofold.engines.postgres.wire.arrays import Binary, BinaryDumper, texts
from twofold.errors import CheckpointMovedError, LimitExceededError
from twofold.ports.checkpoints import SQL as SHARED
from twofold.ports.checkpoints import statement_of
from twofold.ports.full_text import searchable
from twofold.ports.read_database import Changes, Found, Lookup, Source, Values
from twofold.ports.segments import Parked, Step
from twofold.ports.sql import in_format, names, quoted
from twofold.ports.table import Column, Kind, Table

_SOURCE, _SERVING_SOURCE = (in_format(SHARED[name]) for name in ("source", "serving_source"))
_TAKE_STEP = {name: in_format(SHARED[name]) for name in ("take_step", "take_step_of_log")}
_RELEASE = """
    DELETE FROM twofold_parked WHERE name = %(name)s AND generation = %(generation)s
    AND (position, key) IN (SELECT * FROM unnest(%(released_at)s::bigint[], %(released)s::text[]))
    AND EXISTS (SELECT FROM moved)"""


def _marks(prefix: str, count: int) -> list[str]:
    """Return what stands for that number of arrays in a statement."""
    return [f"%({prefix}_{number})s" for number in range(count)]


_PARKED = ("bigint", "text", "integer", "text", "text", "text")
_PARK = f"""
    INSERT INTO twofold_parked (name, generation, position, event_id, slot, key, cause, traceback, parked_at)
    SELECT %(name)s, %(generation)s, e.*, twofold_now()
    FROM unnest({", ".join(f"{mark}::{kind}[]" for mark, kind in zip(_marks("parked", 6), _PARKED, strict=True))}) AS e
    WHERE EXISTS (SELECT FROM moved)
    ON CONFLICT (name, generation, position, key) DO UPDATE
    SET event_id = excluded.event_id, cause = excluded.cause, traceback = excluded.traceback, retry = 0"""


def may_be_stored(table: Table, key: tuple[Any, ...]) -> bool:
    """Return whether a row may have this key: a column takes no value of another type, or out of its range."""
    columns = _key_columns(table)
    try:
        as_arrays(columns, [key])
    except (AttributeError, UnicodeError, struct.error):
        return False
    return all(fits(column.kind, value) for column, value in zip(columns, key, strict=True))


async def load_rows(connection: Connection, table: Table, keys: Sequence[tuple[Any, ...]]) -> Sequence[Values | None]:
    """Return the row of each of these keys, which all `may_be_stored`; None for one that no row has."""
    cursor = _cursor(connection)
    await cursor.execute(_numbered_lookup(table), as_arrays(_key_columns(table), keys))
    numbered = await cursor.fetchall()
    rows = rows_from_sql(table, numbered)  # the number stands behind the columns
    found: list[Values | None] = [None] * len(keys)
    for row, (*_, number) in zip(rows, numbered, strict=True):
        found[number - 1] = row[:-1]
    return found


@cache
def _numbered_lookup(table: Table) -> bytes:
    columns = _key_columns(table)
    wanted = unnested(columns, "wanted", ["%s"] * len(columns), numbered=True)
    return (
        f"SELECT {selected(table.columns)}, twofold_number FROM {quoted(table.name)}"
        f" JOIN {wanted} USING ({names(table.key)})"
    ).encode()


async def lookup_source(connection: Connection, table: Table, lookup: Lookup, source: Source) -> Found:
    """Return rows and how far their source had come, with one statement: so both are of one snapshot."""
    arguments = source_values(source) | _named("wanted", as_arrays(_key_columns(table), lookup.keys))
    cursor = _cursor(connection)
    await cursor.execute(_lookup(table, source_statement(source)), arguments)
    all_rows = await cursor.fetchall()
    position, furthest, has_parked, *_ = all_rows[0]
    found = [row[4:] for row in all_rows if row[3]]
    return Found(rows_from_sql(table, found), position, furthest, has_parked)


def source_statement(source: Source) -> str:
    """Return what tells how far a source has come: position, furthest position, whether it has parked events."""
    return _SOURCE if source.generation else _SERVING_SOURCE


def source_values(source: Source) -> dict[str, Any]:
    """Return the values for the names in the statement about a source."""
    return {**source._asdict(), "name": source.projection, "slot": source.slot}


@cache
def _lookup(table: Table, source: str) -> bytes:
    columns = _key_columns(table)
    wanted = unnested(columns, "wanted", _marks("wanted", len(columns)))
    rows = f"SELECT true, {selected(table.columns)} FROM {quoted(table.name)} JOIN {wanted} USING ({names(table.key)})"
    return f"SELECT source.*, found.* FROM ({source}) AS source LEFT JOIN ({rows}) AS found ON true".encode()


async def write_step(connection: Connection, table: Table, changes: Changes, step: Step) -> None:
    """Write rows and take the step, in one statement, so one round trip."""
    if await _write(connection, table, changes, _TAKE_STEP[statement_of(step)], step.values()) != 1:
        raise CheckpointMovedError(step.segment.projection)


async def write_changes(connection: Connection, table: Table, changes: Changes) -> None:
    """Write and delete the rows of a table, in one statement."""
    await _write(connection, table, changes, "SELECT 1", {})


async def _write(connection: Connection, table: Table, changes: Changes, move: str, arguments: dict[str, Any]) -> int:
    """Write what changes if the statement `move` returns a row; return how many it returned."""
    try:
        if changes.upserts:
            arguments |= _named("new", _upserted(table, changes.upserts))
        if changes.deletes:
            arguments |= _named("gone", as_arrays(_key_columns(table), changes.deletes))
    except (AttributeError, UnicodeError, struct.error) as error:
        raise LimitExceededError(f"PostgreSQL cannot store such a row of {table.name}: {error}") from error
    if changes.parked:
        arguments |= _named("parked", _parked(changes.parked))
    if changes.released:
        arguments["released_at"] = [position for position, _ in changes.released]
        arguments["released"] = [key for _, key in changes.released]
    sql = _statement(table, move, *map(bool, (changes.upserts, changes.deletes, changes.parked, changes.released)))
    try:
        row = await (await _cursor(connection).execute(sql, arguments)).fetchone()
    except psycopg.Error as error:
        if not is_about_the_data(error):
            raise
        raise LimitExceededError(f"PostgreSQL cannot store such a row of {table.name}: {error}") from error
    return int(row[0]) if row else 0


def _cursor(connection: Connection) -> AsyncCursor[tuple[Any, ...]]:
    """Return a cursor on a connection that may be the user's, with arrays in the binary format."""
    cursor = AsyncCursor(connection, row_factory=tuple_row)
    if not isinstance(connection, BoundedConnection):  # which know them
        cursor.adapters.register_dumper(Binary, BinaryDumper)
    return cursor


@cache
def _statement(table: Table, move: str, upserts: bool, deletes: bool, parks: bool, releases: bool) -> bytes:
    """Return the statement that moves on and writes what there is of each kind: the same text each time."""
    parts = [f"moved AS ({move})"]
    if upserts:
        parts.append(f"upserted AS ({_upsert(table)})")
    if deletes:
        parts.append(f"deleted AS ({_delete(table)})")
    if parks:
        parts.append(f"parked AS ({_PARK})")
    if releases:
        parts.append(f"released AS ({_RELEASE})")
    return f"WITH {', '.join(parts)} SELECT count(*) FROM moved".encode()


def _upserted(table: Table, rows: Sequence[Values]) -> list[Binary]:
    """Return the arrays for `_upsert`."""
    arrays = as_arrays(table.columns, rows)
    if table.full_text:
        places = [place for place, column in enumerate(table.columns) if column.name in table.full_text]
        arrays.append(texts(searchable(row[place] for place in places) for row in rows))
    return arrays


def _upsert(table: Table) -> str:
    given = list(table.columns)
    targets = [column.name for column in table.columns]
    values = [f"new.{quoted(name)}" for name in targets]
    if table.full_text:
        given.append(Column(SEARCH, Kind.TEXT, False))
        values.append(f"to_tsvector('simple', new.{SEARCH})")
        targets.append(SEARCH)
    changes = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in targets if name not in table.key)
    return (
        f"INSERT INTO {quoted(table.name)} ({names(targets)}) SELECT {', '.join(values)}"
        f" FROM {unnested(given, 'new', _marks('new', len(given)))} WHERE EXISTS (SELECT FROM moved)"
        f" ON CONFLICT ({names(table.key)}) DO {f'UPDATE SET {changes}' if changes else 'NOTHING'}"
    )


def _delete(table: Table) -> str:
    same = " AND ".join(f"old.{quoted(name)} = gone.{quoted(name)}" for name in table.key)
    columns = _key_columns(table)
    gone = unnested(columns, "gone", _marks("gone", len(columns)))
    return f"DELETE FROM {quoted(table.name)} AS old USING {gone} WHERE {same} AND EXISTS (SELECT FROM moved)"


def _parked(events: Sequence[Parked]) -> list[list[Any]]:
    """Return the arrays for `_PARK`."""
    columns = zip(*((e.position, e.event_id, e.slot, e.key, e.cause, e.traceback) for e in events), strict=True)
    return [list(column) for column in columns]


def _named(prefix: str, arrays: Sequence[Any]) -> dict[str, Any]:
    """Return arrays by the names in `_marks`."""
    return {f"{prefix}_{number}": array for number, array in enumerate(arrays)}


@cache
def _key_columns(table: Table) -> list[Column]:
    return [column for name in table.key for column in table.columns if column.name == name]
