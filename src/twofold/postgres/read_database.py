"""Read models on PostgreSQL: a table for each, a GIN index where there is full text, checkpoints beside them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from twofold.errors import CheckpointMovedError
from twofold.postgres.database import PostgresDatabase
from twofold.postgres.read_columns import SEARCH, rows_from_sql, searchable, selected, unnested
from twofold.postgres.read_selection import select_page, select_totals
from twofold.postgres.read_tables import prepare
from twofold.read_database import Checkpoint, Filter, Selection, Total, Values
from twofold.row_type import Column, Kind, Table
from twofold.sql import names, quoted


class PostgresReadDatabase:
    """A `ReadDatabase` in a PostgreSQL database: the event log's own, or another one."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self._is_open = False

    async def open(self) -> None:
        """See `ReadDatabase.open`."""
        if not self._is_open:
            await self._database.open()
            self._is_open = True

    async def close(self) -> None:
        """See `ReadDatabase.close`."""
        if self._is_open:
            self._is_open = False
            await self._database.close()

    async def prepare(self, table: Table, version: int) -> None:
        """See `ReadDatabase.prepare`."""
        async with self._database.connection() as connection, connection.transaction():
            await prepare(connection, table, version)

    async def checkpoint(self, projection: str) -> int:
        """See `ReadDatabase.checkpoint`."""
        async with self._database.connection() as connection:
            sql = b"SELECT position FROM twofold_projections WHERE name = %s"
            row = await (await connection.execute(sql, (projection,))).fetchone()
            return int(row[0]) if row else 0

    async def load(self, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values]:
        """See `ReadDatabase.load`."""
        if not keys:
            return []
        wanted = unnested(_key_columns(table), "wanted")
        sql = f"SELECT {selected(table.columns)} FROM {quoted(table.name)} JOIN {wanted} USING ({names(table.key)})"
        async with self._database.connection() as connection:
            cursor = await connection.execute(sql.encode(), _arrays(keys, len(table.key)))
            return rows_from_sql(table, await cursor.fetchall())

    async def commit(
        self, table: Table, upserts: Sequence[Values], deletes: Sequence[tuple[Any, ...]], step: Checkpoint
    ) -> None:
        """See `ReadDatabase.commit`. One statement, so one round trip and one transaction."""
        parts = [
            "moved AS (UPDATE twofold_projections SET position = %s"
            " WHERE name = %s AND version = %s AND position = %s RETURNING 1)"
        ]
        arguments: list[Any] = [step.after, step.projection, step.version, step.before]
        if upserts:
            parts.append(f"upserted AS ({_upsert(table)})")
            arguments += _arrays(upserts, len(table.columns))
            if table.full_text:
                places = [place for place, column in enumerate(table.columns) if column.name in table.full_text]
                arguments.append([searchable(row[place] for place in places) for row in upserts])
        if deletes:
            parts.append(f"deleted AS ({_delete(table)})")
            arguments += _arrays(deletes, len(table.key))
        sql = f"WITH {', '.join(parts)} SELECT count(*) FROM moved"
        async with self._database.connection() as connection:
            row = await (await connection.execute(sql.encode(), arguments)).fetchone()
        if not row or row[0] != 1:
            raise CheckpointMovedError(step.projection)

    async def select(self, table: Table, selection: Selection) -> tuple[Sequence[Values], int]:
        """See `ReadDatabase.select`."""
        async with self._database.connection() as connection:
            return await select_page(connection, table, selection)

    async def totals(self, table: Table, by: Sequence[str], of: str, where: Sequence[Filter] = ()) -> Sequence[Total]:
        """See `ReadDatabase.totals`."""
        async with self._database.connection() as connection:
            return await select_totals(connection, table, by, of, where)


def _upsert(table: Table) -> str:
    given = list(table.columns)
    values = [f"new.{quoted(c.name)}{'::jsonb' if c.kind is Kind.JSON else ''}" for c in table.columns]
    targets = [column.name for column in table.columns]
    if table.full_text:
        given.append(Column(SEARCH, Kind.TEXT, False))
        values.append(f"to_tsvector('simple', new.{SEARCH})")
        targets.append(SEARCH)
    changes = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in targets if name not in table.key)
    return (
        f"INSERT INTO {quoted(table.name)} ({names(targets)}) SELECT {', '.join(values)} FROM {unnested(given, 'new')}"
        f" WHERE EXISTS (SELECT FROM moved)"
        f" ON CONFLICT ({names(table.key)}) DO {f'UPDATE SET {changes}' if changes else 'NOTHING'}"
    )


def _delete(table: Table) -> str:
    same = " AND ".join(f"old.{quoted(name)} = gone.{quoted(name)}" for name in table.key)
    return (
        f"DELETE FROM {quoted(table.name)} AS old USING {unnested(_key_columns(table), 'gone')}"
        f" WHERE {same} AND EXISTS (SELECT FROM moved)"
    )


def _key_columns(table: Table) -> list[Column]:
    return [column for name in table.key for column in table.columns if column.name == name]


def _arrays(rows: Collection[Sequence[Any]], width: int) -> list[list[Any]]:
    """Turn rows into one array for each column."""
    return [[row[place] for row in rows] for place in range(width)]
