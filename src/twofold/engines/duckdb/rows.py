"""Rows of read models on a connection of DuckDB: loaded, and written with the step of their segment."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import duckdb

from twofold.engines.duckdb.columns import TYPES, keys_to_sql, rows_from_sql, rows_to_sql, selected
from twofold.engines.duckdb.errors import ABOUT_THE_DATA
from twofold.engines.duckdb.statements import run
from twofold.errors import CheckpointMovedError, LimitExceededError
from twofold.ports.checkpoints import SQL as SHARED
from twofold.ports.checkpoints import statement_of
from twofold.ports.read_database import Changes, Values
from twofold.ports.segments import Step
from twofold.ports.sql import names, quoted
from twofold.ports.table import Table

Connection = duckdb.DuckDBPyConnection


def load_rows(connection: Connection, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values]:
    """Return the rows that have these keys, in no particular order."""
    columns = [column for name in table.key if (column := table.column(name))]
    arrays = [list(values) for values in zip(*keys_to_sql(table, keys), strict=True)]
    wanted = ", ".join(f"unnest(?::{TYPES[column.kind]}[]) AS {quoted(column.name)}" for column in columns)
    sql = f"SELECT {selected(table)} FROM {quoted(table.name)} JOIN (SELECT {wanted}) AS wanted_ USING"
    return rows_from_sql(table, connection.execute(f"{sql} ({names(table.key)})", arrays).fetchall())


def write_step(connection: Connection, table: Table, changes: Changes, step: Step) -> None:
    """Write rows and take the step of their segment, within a transaction."""
    segment = {"name": step.segment.projection, "generation": step.segment.generation}
    if not run(connection, SHARED[statement_of(step)], step.values()):
        raise CheckpointMovedError(step.segment.projection)
    write_rows(connection, table, changes)
    for event in changes.parked:
        run(connection, SHARED["park"], {**segment, **event._asdict(), "slot": event.slot})
    for position, key in changes.released:
        run(connection, SHARED["release"], {**segment, "position": position, "key": key})


def write_rows(connection: Connection, table: Table, changes: Changes) -> None:
    """Write rows and delete others, within a transaction."""
    try:
        _write_rows(connection, table, changes)
    except ABOUT_THE_DATA as error:
        raise LimitExceededError(f"DuckDB cannot store such a row of {table.name}: {error}") from error


def _write_rows(connection: Connection, table: Table, changes: Changes) -> None:
    """Write through appenders, which are by far the fastest way in."""
    if changes.upserts:
        places = [place for place, column in enumerate(table.columns) if column.name in table.key]
        last = {
            tuple(row[place] for place in places): row for row in changes.upserts
        }  # of one key, the first would win
        with connection.appender(table.name, action="upsert") as appender:
            appender.append_rows(rows_to_sql(table, last.values()))
    if changes.deletes:
        with connection.appender(table.name, action="delete", key=list(table.key)) as appender:
            appender.append_rows(keys_to_sql(table, changes.deletes))
