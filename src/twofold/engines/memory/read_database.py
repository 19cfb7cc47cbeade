"""Read models in memory: the tables and statements of SQLite, without a file."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Collection, Generator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from twofold.engines.memory.database import NAME, MemoryDatabase
from twofold.engines.sqlite.log.inline import carry_out
from twofold.engines.sqlite.read_models.alchemy import alchemy_connection, alchemy_engine
from twofold.engines.sqlite.read_models.transaction import SqliteReadTransaction
from twofold.engines.sqlite.rows import in_sql, load_rows, write_step
from twofold.engines.sqlite.selection import read_source, select_page, select_totals
from twofold.ports.positions import Positions
from twofold.ports.read_database import (
    IDLE,
    Changes,
    Filter,
    Found,
    Question,
    Selection,
    Source,
    Style,
    Total,
    Values,
)
from twofold.ports.segments import Segment, Step
from twofold.ports.table import Table

T = TypeVar("T")

SELECT_STEPS = "SELECT name, generation, first_slot, end_slot, epoch, position, held_back FROM twofold_checkpoints"


class MemoryReadTransaction(SqliteReadTransaction):
    """An open transaction of the tables in memory."""

    async def carry_out(self, steps: Generator[Any, Any, T]) -> T:
        """Carry out requests in the event loop, which alone changes the lists of the log."""
        return carry_out(self._connection, steps, self._answer_to)


class MemoryReadDatabase:
    """A `ReadDatabase` in memory, for tests.

    Args:
        database: where; by default one for itself. Inline projections need that of the event log.
    """

    has_indexes = True
    batch_size = 1000
    transaction_time = 0.05

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        self._database = database or MemoryDatabase()
        self._followers: set[Positions] = set()

    def is_in(self, database: object) -> bool:
        return database is self._database

    async def open(self) -> None:
        await self._database.open()

    async def close(self) -> None:
        await self._database.close()
        self._followers.clear()

    @asynccontextmanager
    async def transaction(self, style: Style = "driver", idle: float = IDLE) -> AsyncIterator[SqliteReadTransaction]:
        """Open a transaction; others that write wait for it, and reading goes on."""
        if style == "driver":
            async with self._database.transaction() as connection:
                yield MemoryReadTransaction(connection, answer_to=self._database.answer_to)
        else:
            async with self._database.turn() as connection:
                engine = alchemy_engine(lambda: connection, keep=True)
                async with alchemy_connection(engine, NAME) as alchemy:
                    yield SqliteReadTransaction(connection, alchemy, self._database.answer_to)
        self._tell_all()

    def follow(self, positions: Positions) -> None:
        """Tell of every step from now on: all of them are written here, so that nothing need be watched."""
        self._followers.add(positions)

    async def query(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        def job(reader: sqlite3.Connection) -> list[tuple[Any, ...]]:
            return reader.execute(sql, values).fetchall()

        return self._database.read(job)

    async def read(self, table: Table, question: Question, source: Source) -> Found:
        return self._database.read(partial(read_source, table=table, question=question, source=source))

    async def load(self, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values]:
        return self._database.read(partial(load_rows, table=table, keys=keys)) if keys else []

    def load_at_once(self, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values] | None:
        return self._database.read(partial(load_rows, table=table, keys=keys)) if keys else []

    async def commit(self, table: Table, changes: Changes, step: Step) -> None:
        async with self._database.transaction() as connection:
            write_step(connection, table, in_sql(table, changes), step)
        for positions in self._followers:
            positions.reached(step.segment, step.epoch, step.after, step.held_after)

    async def select(self, table: Table, selection: Selection) -> tuple[Sequence[Values], int]:
        return self._database.read(partial(select_page, table=table, selection=selection))

    async def totals(
        self, table: Table, by: Sequence[str], of: Sequence[str], where: Sequence[Filter] = ()
    ) -> Sequence[Total]:
        return self._database.read(partial(select_totals, table=table, by=by, of=of, where=where))

    def _tell_all(self) -> None:
        if any(positions.waiters for positions in self._followers):
            for *segment, epoch, position, held_back in self._database.read(
                lambda reader: reader.execute(SELECT_STEPS).fetchall()
            ):
                for positions in self._followers:
                    positions.reached(Segment(*segment), epoch, position, held_back)
