"""Read models on PostgreSQL: a table for each, a GIN index where there is full text, checkpoints beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import psycopg

from twofold.engines.postgres.database import Connection, PostgresDatabase
from twofold.engines.postgres.errors import was_rolled_back
from twofold.engines.postgres.listener import Listener, Steps
from twofold.engines.postgres.log.reader import again_if_cut
from twofold.engines.postgres.read_models.selection import select_page, select_totals
from twofold.engines.postgres.read_models.transaction import PostgresReadTransaction
from twofold.engines.postgres.rows import load_rows, write_step
from twofold.errors import StorageError
from twofold.ports.positions import Positions
from twofold.ports.read_database import IDLE, Changes, Filter, Selection, Style, Total, Values
from twofold.ports.segments import Step
from twofold.ports.sql import in_format
from twofold.ports.table import Table

T = TypeVar("T")


class PostgresReadDatabase:
    """A `ReadDatabase` in a PostgreSQL database: the event log's own, or another one."""

    batch_size = 2500
    transaction_time = 1.0

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self._is_open = False
        self._listeners: dict[Positions, Listener] = {}

    def is_in(self, database: object) -> bool:
        """See `ReadDatabase.is_in`."""
        return isinstance(database, PostgresDatabase) and self._database.is_same(database)

    async def open(self) -> None:
        """See `ReadDatabase.open`."""
        if not self._is_open:
            await self._database.open()
            self._is_open = True

    async def close(self) -> None:
        """See `ReadDatabase.close`."""
        for listener in self._listeners.values():
            await listener.stop()
        self._listeners.clear()
        if self._is_open:
            self._is_open = False
            await self._database.close()

    @asynccontextmanager
    async def transaction(self, style: Style = "driver", idle: float = IDLE) -> AsyncIterator[PostgresReadTransaction]:
        """See `ReadDatabase.transaction`."""
        if style == "driver":
            async with self._database.connection() as connection, connection.transaction():
                transaction = PostgresReadTransaction(connection)
                await transaction.limit(idle)
                yield transaction
            return
        async with self._database.alchemy() as alchemy:
            transaction = PostgresReadTransaction((await alchemy.get_raw_connection()).driver_connection, alchemy)
            await transaction.limit(idle)
            yield transaction

    def follow(self, positions: Positions) -> None:
        """See `ReadDatabase.follow`."""
        if positions not in self._listeners:
            self._listeners[positions] = Listener(self._database, Steps(positions))
        self._listeners[positions].start()

    async def query(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        """See `ReadDatabase.query`."""

        async def rows(connection: Connection) -> list[tuple[Any, ...]]:
            return await (await connection.execute(in_format(sql).encode(), values)).fetchall()

        return await self._ask(rows)

    async def load(self, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values]:
        """See `ReadDatabase.load`."""
        return await self._ask(partial(load_rows, table=table, keys=keys)) if keys else []

    async def commit(self, table: Table, changes: Changes, step: Step) -> None:
        """See `ReadDatabase.commit`. One statement, so one round trip and one transaction."""
        async with self._database.connection() as connection:
            await write_step(connection, table, changes, step)

    async def select(self, table: Table, selection: Selection) -> tuple[Sequence[Values], int]:
        """See `ReadDatabase.select`."""
        return await self._ask(partial(select_page, table=table, selection=selection))

    async def totals(
        self, table: Table, by: Sequence[str], of: Sequence[str], where: Sequence[Filter] = ()
    ) -> Sequence[Total]:
        """See `ReadDatabase.totals`."""
        return await self._ask(partial(select_totals, table=table, by=by, of=of, where=where))

    async def _ask(self, question: Callable[[Connection], Awaitable[T]]) -> T:
        """Ask; and once more if a restart had cut the connection, or a standby ended it for what it had to replay."""

        async def run() -> T:
            async with self._database.connection() as connection:
                return await question(connection)

        try:
            return await again_if_cut(self._database, run)
        except StorageError as error:
            if not (isinstance(error.__cause__, psycopg.Error) and was_rolled_back(error.__cause__)):
                raise
        return await run()
