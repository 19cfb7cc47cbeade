"""Read models on DuckDB: a table of columns for each, to be added up by the million, checkpoints beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from twofold.duckdb.columns import key_to_sql, rows_to_sql
from twofold.duckdb.errors import ABOUT_THE_DATA
from twofold.duckdb.file import DuckDbFile
from twofold.duckdb.read_transaction import DuckDbReadTransaction
from twofold.duckdb.selection import load_rows, select_page, select_totals
from twofold.duckdb.statements import run
from twofold.errors import CheckpointMovedError, InvalidProjectionError, LimitExceededError
from twofold.read_database import Changes, Filter, Selection, Style, Total, Values
from twofold.row_type import Table
from twofold.segments import Step
from twofold.sql import sql_blocks

SHARED = sql_blocks("twofold", "checkpoints.sql")
Connection = duckdb.DuckDBPyConnection


class DuckDbReadDatabase:
    """A `ReadDatabase` in a DuckDB file, for reports. One process has it open; others read Parquet snapshots of it.

    Args:
        path: the file; it is created, its folder too.
        settings: DuckDB's own, such as `{"threads": 2, "memory_limit": "1GB"}`; by default it takes all cores, and most
            of the memory.
        readers: questions that are answered at the same time, at most.
    """

    def __init__(self, path: str | Path, *, settings: Mapping[str, Any] | None = None, readers: int = 4) -> None:
        self._file = DuckDbFile(path, settings or {}, readers)

    async def open(self) -> None:
        """See `ReadDatabase.open`.

        Raises:
            StorageUnavailableError: another process has the file open.
        """
        await self._file.open()

    async def close(self) -> None:
        """See `ReadDatabase.close`."""
        await self._file.close()

    @asynccontextmanager
    async def transaction(self, style: Style = "driver") -> AsyncIterator[DuckDbReadTransaction]:
        """See `ReadDatabase.transaction`. One at a time; whoever reads goes on meanwhile."""
        if style != "driver":
            raise InvalidProjectionError(
                'on DuckDB, SQL projections get the driver\'s: declare `connection = "driver"`'
            )
        async with self._file.borrow() as connection:
            yield DuckDbReadTransaction(self._file, connection)

    async def query(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        """See `ReadDatabase.query`."""
        return await self._file.read(lambda reader: run(reader, sql, values))

    async def load(self, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values]:
        """See `ReadDatabase.load`."""
        return await self._file.read(partial(load_rows, table=table, keys=keys)) if keys else []

    async def commit(self, table: Table, changes: Changes, step: Step) -> None:
        """See `ReadDatabase.commit`."""
        await self._file.write(partial(commit, table=table, changes=changes, step=step))

    async def select(self, table: Table, selection: Selection) -> tuple[Sequence[Values], int]:
        """See `ReadDatabase.select`."""
        return await self._file.read(partial(select_page, table=table, selection=selection))

    async def totals(
        self, table: Table, by: Sequence[str], of: Sequence[str], where: Sequence[Filter] = ()
    ) -> Sequence[Total]:
        """See `ReadDatabase.totals`."""
        return await self._file.read(partial(select_totals, table=table, by=by, of=of, where=where))

    async def sql(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """Run a statement of your own that only reads, and return its rows by the names of their columns.

        Read models have the names of their projections, amounts are decimals, moments are in UTC. The statement may
        have `:names` for values. It must never come from outside: DuckDB's SQL can read files.

        Raises:
            MissingTableError: it names a table that is not there.
            StorageError: it is no SQL, or it would write, or the database failed.
        """
        return await self._file.read(partial(read_only, sql=sql, values=values))


def commit(connection: Connection, table: Table, changes: Changes, step: Step) -> None:
    """Take a step within a transaction."""
    segment = {"name": step.segment.projection, "generation": step.segment.generation}
    taken = {"first": step.segment.first, "epoch": step.epoch, "before": step.before, "after": step.after}
    if not run(connection, SHARED["take_step"], {**segment, **taken, "lease": int(step.lease * 1e6)}):
        raise CheckpointMovedError(step.segment.projection)
    try:
        _write_rows(connection, table, changes)
    except ABOUT_THE_DATA as error:
        raise LimitExceededError(f"DuckDB cannot store such a row of {table.name}: {error}") from error
    for event in changes.parked:
        run(connection, SHARED["park"], {**segment, **event._asdict(), "slot": event.slot})
    for position in changes.released:
        run(connection, SHARED["release"], {**segment, "position": position})


def read_only(connection: Connection, sql: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Run a statement in a transaction that cannot write; see `DuckDbReadDatabase.sql`."""
    connection.execute("BEGIN TRANSACTION READ ONLY")
    try:
        rows = run(connection, sql, values)
        columns = [column[0] for column in connection.description or ()]
        return [dict(zip(columns, row, strict=True)) for row in rows]
    finally:
        connection.execute("ROLLBACK")


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
            appender.append_rows(key_to_sql(table, key) for key in changes.deletes)
