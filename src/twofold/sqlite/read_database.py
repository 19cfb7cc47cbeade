"""Read models on SQLite: a table for each, an FTS5 index where there is full text, checkpoints beside them."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any

from twofold.errors import CheckpointMovedError, LimitExceededError
from twofold.positions import Positions
from twofold.read_database import Changes, Filter, Selection, Style, Total, Values
from twofold.row_type import Table
from twofold.segments import Segment, Step
from twofold.sql import names, quoted, sql_blocks
from twofold.sqlite.columns import rows_from_sql, rows_to_sql, to_sql
from twofold.sqlite.database import SqliteDatabase, Transaction
from twofold.sqlite.errors import translate
from twofold.sqlite.read_transaction import SqliteReadTransaction
from twofold.sqlite.selection import select_page, select_totals

SELECT_STEPS = "SELECT name, generation, first_slot, end_slot, epoch, position FROM twofold_checkpoints"
SHARED = sql_blocks("twofold", "checkpoints.sql")


class SqliteReadDatabase:
    """A `ReadDatabase` in a SQLite file: the event log's own, or another one."""

    batch_size = 2500

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._alchemy: Any = None
        self._followers: dict[Positions, asyncio.Task[None]] = {}

    async def open(self) -> None:
        """See `ReadDatabase.open`."""
        await self._database.open()

    async def close(self) -> None:
        """See `ReadDatabase.close`."""
        for follower in self._followers.values():
            follower.cancel()
        await asyncio.gather(*self._followers.values(), return_exceptions=True)
        self._followers.clear()
        await self._database.close()

    @asynccontextmanager
    async def transaction(self, style: Style = "driver") -> AsyncIterator[SqliteReadTransaction]:
        """See `ReadDatabase.transaction`. SQLite has one writer at a time: appends wait until the block has ended."""
        if style == "driver":
            async with self._database.borrow() as connection:
                yield SqliteReadTransaction(connection)
            return
        async with self._database.borrow(begin=False), self._alchemy_connection() as alchemy:
            yield SqliteReadTransaction(alchemy.connection.driver_connection, alchemy)

    def follow(self, positions: Positions) -> None:
        """See `ReadDatabase.follow`."""
        follower = self._followers.get(positions)
        if follower is None or follower.done():
            self._followers[positions] = asyncio.create_task(self._follow(positions), name="twofold-sqlite-steps")

    async def _follow(self, positions: Positions) -> None:
        async with aclosing(self._database.changes(lambda: positions.waiters)) as changes:
            async for connection in changes:
                for *segment, epoch, position in connection.execute(SELECT_STEPS):
                    positions.reached(Segment(*segment), epoch, position)

    async def query(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        """See `ReadDatabase.query`."""
        return await self._database.read(lambda reader: reader.execute(sql, values).fetchall())

    async def load(self, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values]:
        """See `ReadDatabase.load`."""
        return await self._database.read(partial(load_rows, table=table, keys=keys)) if keys else []

    async def commit(self, table: Table, changes: Changes, step: Step) -> None:
        """See `ReadDatabase.commit`."""
        rows = list(rows_to_sql(table, changes.upserts))
        gone = [_key_to_sql(table, key) for key in changes.deletes]
        changes = changes._replace(upserts=rows, deletes=gone)
        await self._database.write(partial(commit, table=table, changes=changes, step=step))

    async def select(self, table: Table, selection: Selection) -> tuple[Sequence[Values], int]:
        """See `ReadDatabase.select`."""
        return await self._database.read(partial(select_page, table=table, selection=selection))

    async def totals(
        self, table: Table, by: Sequence[str], of: Sequence[str], where: Sequence[Filter] = ()
    ) -> Sequence[Total]:
        """See `ReadDatabase.totals`."""
        return await self._database.read(partial(select_totals, table=table, by=by, of=of, where=where))

    @asynccontextmanager
    async def _alchemy_connection(self) -> AsyncIterator[Any]:
        """Open a connection of SQLAlchemy in a transaction of its own; it has its turn, so nobody here competes."""
        self._alchemy = self._alchemy or _alchemy_engine(self._database)
        try:
            connection = await asyncio.to_thread(_begun, self._alchemy)
            try:
                yield connection
                await asyncio.to_thread(connection.commit)
            finally:
                connection.close()  # rolls back what is not committed
        except Exception as error:
            if isinstance(driver_error := getattr(error, "orig", None), sqlite3.Error):
                raise translate(driver_error, self._database.path) from error
            raise


def load_rows(reader: sqlite3.Connection, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values]:
    """See `ReadDatabase.load`."""
    select = f"SELECT {names(column.name for column in table.columns)} FROM {quoted(table.name)} WHERE"
    wanted = [_key_to_sql(table, key) for key in keys]
    if len(table.key) == 1:
        sql = f"{select} {quoted(table.key[0])} IN (SELECT value FROM json_each(?))"
        return rows_from_sql(table, reader.execute(sql, (json.dumps([key[0] for key in wanted]),)))
    sql = f"{select} {_key_condition(table)}"
    return rows_from_sql(table, (row for key in wanted for row in reader.execute(sql, key)))


def commit(transaction: Transaction, table: Table, changes: Changes, step: Step) -> None:
    """Take a step, within a transaction that others share; rows and keys are given as SQLite keeps them."""
    connection = transaction.connection
    segment = {"name": step.segment.projection, "generation": step.segment.generation}
    taken = {"first": step.segment.first, "epoch": step.epoch, "before": step.before, "after": step.after}
    lease = int(step.lease * 1e6)
    if not connection.execute(SHARED["take_step"], {**segment, **taken, "lease": lease}).fetchall():
        raise CheckpointMovedError(step.segment.projection)
    try:
        if changes.upserts:
            connection.executemany(_upsert(table), changes.upserts)
    except (OverflowError, UnicodeError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.DataError) as error:
        raise LimitExceededError(f"SQLite cannot store such a row of {table.name}: {error}") from error
    if changes.deletes:
        connection.executemany(f"DELETE FROM {quoted(table.name)} WHERE {_key_condition(table)}", changes.deletes)
    for event in changes.parked:
        connection.execute(SHARED["park"], {**segment, **event._asdict(), "slot": event.slot})
    for position in changes.released:
        connection.execute(SHARED["release"], {**segment, "position": position})


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


def _alchemy_engine(database: SqliteDatabase) -> Any:
    """Return an engine of SQLAlchemy that makes its own connections, and so its own transactions."""
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import NullPool

    engine = create_engine("sqlite://", creator=database.connect, poolclass=NullPool)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _begun(engine: Any) -> Any:
    connection = engine.connect()
    try:
        connection.begin()
    except BaseException:
        connection.close()
        raise
    return connection
