"""Transactions on the read models' tables in SQLite, for all that is not a plain step of a keyed projection."""

from __future__ import annotations

import inspect
import sqlite3
from collections.abc import Callable, Collection, Generator
from typing import Any, TypeVar

from twofold.engines.sqlite.errors import storage_failed
from twofold.engines.sqlite.log.inline import Answer, answer, carry_out
from twofold.engines.sqlite.read_models import tables
from twofold.ports.table import Table
from twofold.tasks import run_in_thread

T = TypeVar("T")


class SqliteReadTransaction:
    """An open transaction that may write. Small statements run in the loop: a way to a thread takes longer.

    Args:
        connection: of the driver.
        alchemy: the same one as SQLAlchemy has it, for the user's code.
        answer_to: answers inline projections, where the log is not in this database.
    """

    def __init__(self, connection: sqlite3.Connection, alchemy: Any = None, answer_to: Answer = answer) -> None:
        self._connection = connection
        self._alchemy = alchemy
        self._answer_to = answer_to

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
        """Do nothing: a transaction that writes to SQLite is alone already."""

    async def create(self, table: Table) -> None:
        tables.create(self._connection, table)

    async def check(self, table: Table) -> None:
        await run_in_thread(tables.check, self._connection, table)

    async def drop(self, *names: str) -> None:
        await run_in_thread(tables.drop, self._connection, *names)

    async def empty(self, *names: str) -> None:
        await run_in_thread(tables.empty, self._connection, *names)

    async def expose(self, name: str, table: str) -> None:
        tables.expose(self._connection, name, table)

    async def names(self) -> Collection[str]:
        return [name for (name,) in self._connection.execute("SELECT name FROM sqlite_master")]

    async def carry_out(self, steps: Generator[Any, Any, T]) -> T:
        return await run_in_thread(carry_out, self._connection, steps, self._answer_to)
