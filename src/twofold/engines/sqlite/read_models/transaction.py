"""Transactions on the read models' tables in SQLite, for all that is not a plain step of a keyed projection."""

from __future__ import annotations

import inspect
import sqlite3
from collections.abc import Callable, Collection, Generator
from typing import Any, TypeVar

from twofold.engines.sqlite.errors import storage_failed
from twofold.engines.sqlite.log.inline import carry_out
from twofold.engines.sqlite.read_models import tables
from twofold.engines.sqlite.threads import run_in_thread
from twofold.ports.table import Table

T = TypeVar("T")


class SqliteReadTransaction:
    """See `ReadTransaction`. Small statements run in the event loop: they take less time than a way to a thread."""

    def __init__(self, connection: sqlite3.Connection, alchemy: Any = None) -> None:
        self._connection = connection
        self._alchemy = alchemy

    async def call(self, code: Callable[[Any], Any]) -> Any:
        if self._alchemy is not None:
            return await run_in_thread(code, self._alchemy)
        result = code(self._connection)
        return await result if inspect.isawaitable(result) else result

    async def run(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, values).fetchall()

    def is_to_blame(self, error: BaseException) -> bool:
        return storage_failed(getattr(error, "orig", error))

    async def lock(self, name: str) -> None:
        """See `ReadTransaction.lock`. Who writes to SQLite is alone already."""

    async def create(self, table: Table) -> None:
        tables.create(self._connection, table)

    async def check(self, table: Table) -> None:
        await run_in_thread(tables.check, self._connection, table)

    async def drop(self, name: str) -> None:
        await run_in_thread(tables.drop, self._connection, name)

    async def expose(self, name: str, table: str) -> None:
        tables.expose(self._connection, name, table)

    async def names(self) -> Collection[str]:
        return [name for (name,) in self._connection.execute("SELECT name FROM sqlite_master")]

    async def carry_out(self, steps: Generator[Any, Any, T]) -> T:
        """See `ReadTransaction.carry_out`. Who writes to SQLite has locked the log already."""
        return await run_in_thread(carry_out, self._connection, steps)
