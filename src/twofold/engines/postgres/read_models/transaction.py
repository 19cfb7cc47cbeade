"""Transactions on the read models' tables in PostgreSQL, for all that is not a plain step of a keyed projection."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from psycopg import AsyncCursor
from psycopg.rows import tuple_row

from twofold.engines.postgres.connection import BoundedConnection
from twofold.engines.postgres.errors import server_failed
from twofold.engines.postgres.log.inline import carry_out
from twofold.engines.postgres.read_models import tables
from twofold.options import PostgresOptions
from twofold.ports.sql import in_format
from twofold.ports.table import Table

T = TypeVar("T")

_LIMIT = "SELECT set_config('idle_in_transaction_session_timeout', :limit, true)"


class PostgresReadTransaction:
    """A transaction on one connection, of the driver or of SQLAlchemy."""

    def __init__(self, connection: BoundedConnection, options: PostgresOptions, alchemy: Any = None) -> None:
        self._connection = connection
        self._options = options
        self._alchemy = alchemy

    async def limit(self, idle: float) -> None:
        """Let the server end the transaction once this process has done nothing for that time, in seconds."""
        await self.run(_LIMIT, limit=str(max(int(idle * 1000), 1)))

    async def call(self, code: Callable[[Any], Any]) -> Any:
        self._connection.foreign = True
        with self._taking_long():
            if self._alchemy is not None:
                return await self._alchemy.run_sync(code)
            result = code(self._connection)
            return await result if inspect.isawaitable(result) else result

    async def run(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        cursor = AsyncCursor(self._connection, row_factory=tuple_row)
        await cursor.execute(in_format(sql).encode(), values)
        return await cursor.fetchall() if cursor.description else []

    def is_to_blame(self, error: BaseException) -> bool:
        return server_failed(getattr(error, "orig", error))

    async def lock(self, name: str) -> None:
        with self._taking_long():
            await self.run(
                "SELECT pg_advisory_xact_lock(hashtextextended('twofold read model ' || :name, 0))", name=name
            )

    async def create(self, table: Table) -> None:
        with self._taking_long():
            await tables.create(self._connection, table)

    async def check(self, table: Table) -> None:
        with self._taking_long():
            await tables.check(self._connection, table)

    async def drop(self, *names: str) -> None:
        with self._taking_long():
            await tables.drop(self._connection, *names)

    async def empty(self, *names: str) -> None:
        with self._taking_long():
            await tables.empty(self._connection, *names)

    async def expose(self, name: str, table: str) -> None:
        with self._taking_long():
            await tables.expose(self._connection, name, table)

    async def names(self) -> Collection[str]:
        visible = "SELECT relname FROM pg_class WHERE pg_table_is_visible(oid) AND relkind IN ('r', 'v', 'p', 'm')"
        return [name for (name,) in await self.run(visible)]

    async def carry_out(self, steps: Generator[Any, Any, T]) -> T:
        return await carry_out(self._connection, steps)

    @contextmanager
    def _taking_long(self) -> Iterator[None]:
        """Give the server the time that the user's SQL may take, or what waits for that."""
        silence, self._connection.silence = self._connection.silence, self._options.statement_timeout
        try:
            yield
        finally:
            self._connection.silence = silence
