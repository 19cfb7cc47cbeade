"""Transactions on the read models' tables in DuckDB, for all that is not a plain step of a keyed projection."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Generator
from functools import partial
from typing import Any, TypeVar, cast

import duckdb

from twofold.engines.duckdb import tables
from twofold.engines.duckdb.database import DuckDbDatabase
from twofold.engines.duckdb.errors import storage_failed
from twofold.engines.duckdb.rows import write_rows, write_step
from twofold.engines.duckdb.statements import run
from twofold.errors import StorageError
from twofold.ports.inline import WriteRows, WriteStep
from twofold.ports.table import Table

T = TypeVar("T")


class DuckDbReadTransaction:
    """An open transaction that may write, in the thread that writes."""

    def __init__(self, database: DuckDbDatabase, connection: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self._connection = connection

    async def call(self, code: Callable[[Any], Any]) -> Any:
        result = code(self._connection)
        return await result if inspect.isawaitable(result) else result

    async def run(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        if sql.startswith("SAVEPOINT"):
            raise StorageError(
                "DuckDB has no savepoints, so that no single event of a batch can be parked: declare `on_failure = "
                '"stop"` on SQL projections that it keeps, or write a keyed projection'
            )
        return await self._database.run(partial(run, self._connection, sql, values))

    def is_to_blame(self, error: BaseException) -> bool:
        return storage_failed(error)

    async def lock(self, name: str) -> None:
        """Do nothing: a transaction that writes to DuckDB is alone already."""

    async def create(self, table: Table) -> None:
        await self._database.run(partial(tables.create, self._connection, table))

    async def check(self, table: Table) -> None:
        await self._database.run(partial(tables.check, self._connection, table))

    async def drop(self, *names: str) -> None:
        await self._database.run(partial(tables.drop, self._connection, *names))

    async def empty(self, *names: str) -> None:
        await self._database.run(partial(tables.empty, self._connection, *names))

    async def expose(self, name: str, table: str) -> None:
        await self._database.run(partial(tables.expose, self._connection, name, table))

    async def names(self) -> Collection[str]:
        return await self._database.run(partial(tables.all_names, self._connection))

    async def carry_out(self, steps: Generator[Any, Any, T]) -> T:
        """Carry out requests that write rows; no event log is in DuckDB, of which others could be.

        Raises:
            StorageError: it is another request, or the database failed.
        """
        return await self._database.run(partial(_carry_out, self._connection, steps))


def _carry_out(connection: duckdb.DuckDBPyConnection, steps: Generator[Any, Any, T]) -> T:
    try:
        request = next(steps)
        while True:
            match request:
                case WriteStep(table, changes, step):
                    write_step(connection, table, changes, step)
                case WriteRows(table, changes):
                    write_rows(connection, table, changes)
                case _:
                    raise StorageError("DuckDB holds no event log whose appends could write its read models")
            request = steps.send(None)
    except StopIteration as end:
        return cast("T", end.value)
