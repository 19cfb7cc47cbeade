"""Read models on SQLite: a table for each, an FTS5 index where there is full text, checkpoints beside them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from twofold.errors import CheckpointMovedError
from twofold.read_database import Checkpoint, Filter, Selection, Total, Values
from twofold.row_type import Table
from twofold.sql import names, quoted
from twofold.sqlite.columns import rows_from_sql, rows_to_sql, to_sql
from twofold.sqlite.database import SqliteDatabase, Transaction
from twofold.sqlite.read_tables import prepare
from twofold.sqlite.selection import select_page, select_totals


class SqliteReadDatabase:
    """A `ReadDatabase` in a SQLite file: the event log's own, or another one."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def open(self) -> None:
        """See `ReadDatabase.open`."""
        await self._database.open()

    async def close(self) -> None:
        """See `ReadDatabase.close`."""
        await self._database.close()

    async def prepare(self, table: Table, version: int) -> None:
        """See `ReadDatabase.prepare`."""
        await self._database.write(partial(prepare, table=table, version=version))

    async def checkpoint(self, projection: str) -> int:
        """See `ReadDatabase.checkpoint`."""
        return await self._database.read(partial(_checkpoint, projection=projection))

    async def load(self, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values]:
        """See `ReadDatabase.load`."""
        return await self._database.read(partial(_load, table=table, keys=keys)) if keys else []

    async def commit(
        self, table: Table, upserts: Sequence[Values], deletes: Sequence[tuple[Any, ...]], step: Checkpoint
    ) -> None:
        """See `ReadDatabase.commit`."""
        rows, gone = list(rows_to_sql(table, upserts)), [_key_to_sql(table, key) for key in deletes]
        await self._database.write(partial(_commit, table=table, rows=rows, gone=gone, step=step))

    async def select(self, table: Table, selection: Selection) -> tuple[Sequence[Values], int]:
        """See `ReadDatabase.select`."""
        return await self._database.read(partial(select_page, table=table, selection=selection))

    async def totals(self, table: Table, by: Sequence[str], of: str, where: Sequence[Filter] = ()) -> Sequence[Total]:
        """See `ReadDatabase.totals`."""
        return await self._database.read(partial(select_totals, table=table, by=by, of=of, where=where))


def _checkpoint(reader: sqlite3.Connection, projection: str) -> int:
    row = reader.execute("SELECT position FROM twofold_projections WHERE name = ?", (projection,)).fetchone()
    return row[0] if row else 0


def _load(reader: sqlite3.Connection, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values]:
    select = f"SELECT {names(column.name for column in table.columns)} FROM {quoted(table.name)} WHERE"
    wanted = [_key_to_sql(table, key) for key in keys]
    if len(table.key) == 1:
        sql = f"{select} {quoted(table.key[0])} IN (SELECT value FROM json_each(?))"
        return rows_from_sql(table, reader.execute(sql, (json.dumps([key[0] for key in wanted]),)))
    sql = f"{select} {_key_condition(table)}"
    return rows_from_sql(table, (row for key in wanted for row in reader.execute(sql, key)))


def _commit(
    transaction: Transaction, table: Table, rows: list[Values], gone: list[tuple[Any, ...]], step: Checkpoint
) -> None:
    connection = transaction.connection
    moved = connection.execute(
        "UPDATE twofold_projections SET position = ? WHERE name = ? AND version = ? AND position = ?",
        (step.after, step.projection, step.version, step.before),
    )
    if moved.rowcount != 1:
        raise CheckpointMovedError(step.projection)
    if rows:
        connection.executemany(_upsert(table), rows)
    if gone:
        connection.executemany(f"DELETE FROM {quoted(table.name)} WHERE {_key_condition(table)}", gone)


def _upsert(table: Table) -> str:
    fields = [column.name for column in table.columns]
    changes = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in fields if name not in table.key)
    return (
        f"INSERT INTO {quoted(table.name)} ({names(fields)}) VALUES ({', '.join('?' * len(fields))})"
        f" ON CONFLICT ({names(table.key)}) DO {f'UPDATE SET {changes}' if changes else 'NOTHING'}"
    )


def _key_condition(table: Table) -> str:
    return " AND ".join(f"{quoted(name)} = ?" for name in table.key)


def _key_to_sql(table: Table, key: tuple[Any, ...]) -> tuple[Any, ...]:
    kinds = {column.name: column.kind for column in table.columns}
    return tuple(to_sql(kinds[name], value) for name, value in zip(table.key, key, strict=True))
