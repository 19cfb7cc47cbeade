"""A real read database under a process that dies at a certain call: before it, or between it and its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

from twofold.errors import StorageUnavailableError
from twofold.ports.read_database import IDLE, Changes, ReadDatabase, ReadTransaction, Style, Values
from twofold.ports.segments import Step
from twofold.ports.table import Table


class MortalReadDatabase:
    """Counts the points at which a process may die; from the given one on, nothing that it does has an effect."""

    def __init__(self, behind: ReadDatabase, dies_at: int = 0) -> None:
        self._behind = behind
        self._dies_at = dies_at
        self.points = 0
        self.dead = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    def point(self) -> None:
        """Die here, if this is the point.

        Raises:
            StorageUnavailableError: it is dead.
        """
        self.points += 1
        if self.points == self._dies_at:
            self.dead.set()
        if self.dead.is_set():
            raise StorageUnavailableError("this process is dead, says the test")

    async def query(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        self.point()
        return await self._behind.query(sql, **values)

    async def load(self, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values]:
        self.point()
        return await self._behind.load(table, keys)

    async def commit(self, table: Table, changes: Changes, step: Step) -> None:
        self.point()
        await self._behind.commit(table, changes, step)
        self.point()

    @asynccontextmanager
    async def transaction(self, style: Style = "driver", idle: float = IDLE) -> AsyncIterator[ReadTransaction]:
        self.point()
        async with self._behind.transaction(style, idle) as transaction:
            yield _MortalTransaction(transaction, self)
            self.point()
        self.point()


class _MortalTransaction:
    def __init__(self, behind: ReadTransaction, database: MortalReadDatabase) -> None:
        self._behind = behind
        self._database = database

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    async def run(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        self._database.point()
        return await self._behind.run(sql, **values)
