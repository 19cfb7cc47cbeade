"""Read models on SQLite: a table for each, an FTS5 index where there is full text, checkpoints beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Any

from twofold.engines.sqlite.database import SqliteDatabase
from twofold.engines.sqlite.read_models.alchemy import alchemy_connection, alchemy_engine
from twofold.engines.sqlite.read_models.transaction import SqliteReadTransaction
from twofold.engines.sqlite.rows import in_sql, load_rows, may_be_stored, write_step
from twofold.engines.sqlite.selection import read_source, select_page, select_totals
from twofold.errors import StorageError
from twofold.ports.checkpoints import BRIEF
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
from twofold.ports.segments import Segment, Step
from twofold.ports.table import Table

SELECT_STEPS = "SELECT name, generation, first_slot, end_slot, epoch, position, held_back FROM twofold_checkpoints"


class SqliteReadDatabase:
    """A `ReadDatabase` in a SQLite file: the event log's own, or another one."""

    has_indexes = True
    transaction_time = 0.05  # nothing else can write to the file, appends included

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self.batch_size = database.options.step_events
        self._alchemy: Any = None
        self._followers: dict[Positions, asyncio.Task[None]] = {}

    def is_in(self, database: object) -> bool:
        return isinstance(database, SqliteDatabase) and self._database.path.resolve() == database.path.resolve()

    async def open(self) -> None:
        await self._database.open()

    async def close(self) -> None:
        self._database.check_owner()
        for follower in self._followers.values():
            follower.cancel()
        await asyncio.gather(*self._followers.values(), return_exceptions=True)
        self._followers.clear()
        await self._database.close()

    @asynccontextmanager
    async def transaction(self, style: Style = "driver", idle: float = IDLE) -> AsyncIterator[SqliteReadTransaction]:
        """Open a transaction. SQLite has one writer at a time: appends wait until the block has ended."""
        if style == "driver":
            async with self._database.borrow() as connection:
                yield SqliteReadTransaction(connection)
            return
        self._alchemy = self._alchemy or alchemy_engine(self._database.connect)
        async with (
            self._database.borrow(begin=False),
            alchemy_connection(self._alchemy, self._database.path) as alchemy,
        ):
            yield SqliteReadTransaction(alchemy.connection.driver_connection, alchemy)

    def follow(self, positions: Positions) -> None:
        follower = self._followers.get(positions)
        if follower is None or follower.done():
            self._followers[positions] = asyncio.create_task(self._follow(positions), name="twofold-sqlite-steps")

    async def _follow(self, positions: Positions) -> None:
        with suppress(StorageError):  # the waiting tasks read, too, and tell the cause; they ask to follow again
            async with aclosing(self._database.changes(lambda: positions.waiters)) as changes:
                async for connection in changes:
                    for *segment, epoch, position, held_back in connection.execute(SELECT_STEPS):
                        positions.reached(Segment(*segment), epoch, position, held_back)

    async def query(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        return await self._database.read(lambda reader: reader.execute(sql, values).fetchall(), brief=sql in BRIEF)

    async def read(self, table: Table, question: Question, source: Source) -> Found:
        try:
            job = partial(read_source, table=table, question=question, source=source)
            return await self._database.read(job, brief=isinstance(question, Lookup) and self._is_brief(question.keys))
        except (OverflowError, UnicodeError):  # no row can have one of these keys
            if not isinstance(question, Lookup):
                raise
            possible = Lookup(tuple(key for key in question.keys if may_be_stored(table, key)))
            if possible == question:
                raise
            return await self.read(table, possible, source)

    async def load(self, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values]:
        if not keys:
            return []
        try:
            return await self._database.read(partial(load_rows, table=table, keys=keys), brief=self._is_brief(keys))
        except (OverflowError, UnicodeError):  # no row can have one of these keys
            possible = [key for key in keys if may_be_stored(table, key)]
            if len(possible) == len(keys):
                raise
            return await self.load(table, possible)

    def load_at_once(self, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values] | None:
        if not self._is_brief(keys):
            return None
        try:
            return self._database.read_at_once(partial(load_rows, table=table, keys=keys))
        except (OverflowError, UnicodeError):  # no row can have one of these keys
            return None

    async def commit(self, table: Table, changes: Changes, step: Step) -> None:
        job = partial(write_step, table=table, changes=in_sql(table, changes), step=step)
        few = len(changes.upserts) + len(changes.deletes) <= self._database.options.brief_step
        await self._database.write(lambda transaction: job(transaction.connection), brief=few)

    async def select(self, table: Table, selection: Selection) -> tuple[Sequence[Values], int]:
        return await self._database.read(partial(select_page, table=table, selection=selection))

    async def totals(
        self, table: Table, by: Sequence[str], of: Sequence[str], where: Sequence[Filter] = ()
    ) -> Sequence[Total]:
        return await self._database.read(partial(select_totals, table=table, by=by, of=of, where=where))

    def _is_brief(self, keys: Collection[tuple[Any, ...]]) -> bool:
        return len(keys) <= self._database.options.brief_lookup
