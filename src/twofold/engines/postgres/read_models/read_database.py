"""Read models on PostgreSQL: a table for each, a GIN index where there is full text, checkpoints beside them."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from psycopg import AsyncCursor
from psycopg.rows import tuple_row

from twofold.engines.postgres.connection import Connection
from twofold.engines.postgres.database import PostgresDatabase
from twofold.engines.postgres.listener import Listener, Steps
from twofold.engines.postgres.read_models.lookups import Lookups
from twofold.engines.postgres.read_models.transaction import PostgresReadTransaction
from twofold.engines.postgres.rows import load_rows, may_be_stored, write_step
from twofold.engines.postgres.selection import read_source, select_page, select_totals
from twofold.errors import LimitExceededError
from twofold.ports.positions import Positions
from twofold.ports.read_database import (
    IDLE,
    Changes,
    Filter,
    Found,
    Lookup,
    Question,
    Selection,
    Source,
    Style,
    Total,
    Values,
)
from twofold.ports.segments import Step
from twofold.ports.sql import in_format
from twofold.ports.table import Table


class PostgresReadDatabase:
    """A `ReadDatabase` in a PostgreSQL database: the event log's own, or another one."""

    has_indexes = True
    batch_size = 2500
    transaction_time = 1.0

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self._is_open = False
        options = database.options
        self._lookups = Lookups(self._load, options.lookups, options.lookup_keys)
        self._listeners: dict[Positions, Listener] = {}

    def is_in(self, database: object) -> bool:
        return isinstance(database, PostgresDatabase) and self._database.is_same(database)

    async def open(self) -> None:
        if self._is_open:
            self._database.check()
        else:
            await self._database.open()
            self._is_open = True

    async def close(self) -> None:
        if self._is_open:
            self._database.check()
        for listener in self._listeners.values():
            await listener.stop()
        self._listeners.clear()
        if self._is_open:
            self._is_open = False
            await self._database.close()

    @asynccontextmanager
    async def transaction(self, style: Style = "driver", idle: float = IDLE) -> AsyncIterator[PostgresReadTransaction]:
        if style == "driver":
            async with self._database.transaction(idle) as connection:
                yield PostgresReadTransaction(connection, self._database.options)
            return
        async with self._database.alchemy() as alchemy:
            connection = (await alchemy.get_raw_connection()).driver_connection
            transaction = PostgresReadTransaction(connection, self._database.options, alchemy)
            await transaction.limit(idle)
            yield transaction

    def follow(self, positions: Positions) -> None:
        self._database.check()
        if positions not in self._listeners:
            self._listeners[positions] = Listener(self._database, Steps(positions))
        self._listeners[positions].start()

    async def query(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:

        async def rows(connection: Connection) -> list[tuple[Any, ...]]:
            cursor = AsyncCursor(connection, row_factory=tuple_row)
            await cursor.execute(in_format(sql).encode(), values)
            return await cursor.fetchall()

        return await self._database.ask(rows, self._database.options.statement_timeout)

    async def read(self, table: Table, question: Question, source: Source) -> Found:
        try:
            return await self._database.ask(partial(read_source, table=table, question=question, source=source))
        except (AttributeError, UnicodeError, struct.error, LimitExceededError):  # no row can have one of these keys
            if not isinstance(question, Lookup):
                raise
            possible = Lookup(tuple(key for key in question.keys if may_be_stored(table, key)))
            if possible == question:
                raise
            return await self.read(table, possible, source)

    async def load(self, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values]:
        if not keys:
            return []
        if len(keys) <= self._database.options.brief_lookup:
            return await self._lookups.rows(table, list(keys))
        return [row for row in await self._load(table, list(keys)) if row is not None]

    async def _load(self, table: Table, keys: Sequence[tuple[Any, ...]]) -> Sequence[Values | None]:
        try:
            return await self._database.ask(partial(load_rows, table=table, keys=keys))
        except (AttributeError, UnicodeError, struct.error, LimitExceededError):  # no row can have one of these keys
            possible = [key for key in keys if may_be_stored(table, key)]
            if len(possible) == len(keys):
                raise
        found = iter(await self._load(table, possible) if possible else ())
        return [next(found) if may_be_stored(table, key) else None for key in keys]

    def load_at_once(self, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values] | None:
        """Return None: a server is asked over the network."""
        return None

    async def commit(self, table: Table, changes: Changes, step: Step) -> None:
        """Write a step: one statement, so one round trip and one transaction."""
        async with self._database.connection() as connection:
            await write_step(connection, table, changes, step)

    async def select(self, table: Table, selection: Selection) -> tuple[Sequence[Values], int]:
        question = partial(select_page, table=table, selection=selection)
        return await self._database.ask(question, self._database.options.statement_timeout)

    async def totals(
        self, table: Table, by: Sequence[str], of: Sequence[str], where: Sequence[Filter] = ()
    ) -> Sequence[Total]:
        question = partial(select_totals, table=table, by=by, of=of, where=where)
        return await self._database.ask(question, self._database.options.statement_timeout)
