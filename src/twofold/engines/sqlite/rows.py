"""Rows of read models on a connection of SQLite: loaded, and written with the step of their segment."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import cache
from operator import itemgetter
from typing import Any

from twofold.engines.sqlite.columns import UNCHANGED, rows_from_sql, rows_to_sql, to_sql
from twofold.engines.sqlite.writing import write_rows
from twofold.errors import CheckpointMovedError, LimitExceededError
from twofold.ports.checkpoints import SQL as SHARED
from twofold.ports.checkpoints import statement_of
from twofold.ports.read_database import Changes, Values
from twofold.ports.segments import Step
from twofold.ports.sql import names, quoted
from twofold.ports.table import Kind, Table


def load_rows(reader: sqlite3.Connection, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values]:
    """Return the rows that have these keys, in no particular order."""
    wanted, sql = [_key_to_sql(table, key) for key in keys], _select_one(table)
    if len(wanted) == 1:
        return rows_from_sql(table, reader.execute(sql, wanted[0]).fetchall())
    if len(table.key) == 1:
        listed = json.dumps([key[0] for key in wanted])
        return rows_from_sql(table, reader.execute(_select_listed(table), (listed,)).fetchall())
    return rows_from_sql(table, [row for key in wanted for row in reader.execute(sql, key)])


@cache
def _select_one(table: Table) -> str:
    return f"{_select(table)} WHERE {_key_condition(table)}"


@cache
def _select_listed(table: Table) -> str:
    return f"{_select(table)} WHERE {quoted(table.key[0])} IN (SELECT value FROM json_each(?))"


def _select(table: Table) -> str:
    return f"SELECT {names(column.name for column in table.columns)} FROM {quoted(table.name)}"


def may_be_stored(table: Table, key: tuple[Any, ...]) -> bool:
    """Return whether a row may have this key: SQLite's integers have 64 bits, and its texts are UTF-8."""
    try:
        values = _key_to_sql(table, key)
        for value in values:
            if isinstance(value, str):
                value.encode()
    except (OverflowError, UnicodeError):
        return False
    return all(not isinstance(value, int) or -(2**63) <= value < 2**63 for value in values)


def in_sql(table: Table, changes: Changes) -> Changes:
    """Return changes with rows and keys as SQLite keeps them; rows in the order of their keys are written faster."""
    rows, gone = rows_to_sql(table, changes.upserts), [_key_to_sql(table, key) for key in changes.deletes]
    names = [column.name for column in table.columns]
    with suppress(TypeError):  # a value of the wrong type: the database will name the row
        rows.sort(key=itemgetter(*map(names.index, table.key)))
    return changes._replace(upserts=rows, deletes=gone)


def write_step(connection: sqlite3.Connection, table: Table, changes: Changes, step: Step) -> None:
    """Take a step, within a transaction that others share; rows and keys are given as SQLite keeps them."""
    segment = {"name": step.segment.projection, "generation": step.segment.generation}
    if not connection.execute(SHARED[statement_of(step)], step.values()).fetchall():
        raise CheckpointMovedError(step.segment.projection)
    write_changes(connection, table, changes)
    for event in changes.parked:
        connection.execute(SHARED["park"], {**segment, **event._asdict(), "slot": event.slot})
    for position, key in changes.released:
        connection.execute(SHARED["release"], {**segment, "position": position, "key": key})


def write_changes(connection: sqlite3.Connection, table: Table, changes: Changes) -> None:
    """Write and delete the rows of a table; rows and keys are given as SQLite keeps them."""
    try:
        write_rows(connection, _upsert(table), changes.upserts)
    except (OverflowError, UnicodeError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.DataError) as error:
        raise LimitExceededError(f"SQLite cannot store such a row of {table.name}: {error}") from error
    if changes.deletes:
        connection.executemany(_delete(table), changes.deletes)


@cache
def _upsert(table: Table) -> str:
    fields = [column.name for column in table.columns]
    changes = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in fields if name not in table.key)
    return (
        f"INSERT INTO {quoted(table.name)} ({names(fields)}) VALUES ({', '.join('?' * len(fields))})"
        f" ON CONFLICT ({names(table.key)}) DO {f'UPDATE SET {changes}' if changes else 'NOTHING'}"
    )


@cache
def _delete(table: Table) -> str:
    return f"DELETE FROM {quoted(table.name)} WHERE {_key_condition(table)}"


def _key_condition(table: Table) -> str:
    return " AND ".join(f"{quoted(name)} = ?" for name in table.key)


def _key_to_sql(table: Table, key: tuple[Any, ...]) -> tuple[Any, ...]:
    kinds = _key_kinds(table)
    if UNCHANGED.issuperset(kinds):
        return key
    return tuple(to_sql(kind, value) for kind, value in zip(kinds, key, strict=True))


@cache
def _key_kinds(table: Table) -> tuple[Kind, ...]:
    kinds = {column.name: column.kind for column in table.columns}
    return tuple(kinds[name] for name in table.key)
