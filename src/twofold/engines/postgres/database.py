"""One PostgreSQL database: what it must be like to be trusted, and who may use its connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

import psycopg

from twofold.engines.postgres import address, capacity, schema
from twofold.engines.postgres.connection import BoundedConnection, Connection
from twofold.engines.postgres.connections import Connections
from twofold.engines.postgres.errors import translate
from twofold.engines.postgres.session import Session, refuse_another_schema
from twofold.errors import StorageError
from twofold.options import PostgresOptions
from twofold.ports.turns import Turns
from twofold.tasks import JITTER

T = TypeVar("T")


class PostgresDatabase:
    """Owner of the connections to a database. The event log and the read models in one database share one.

    Works behind PgBouncer in transaction mode too, which it notices by itself: then it prepares no statement.

    Args:
        url: `postgresql://user:password@host/database`. `?allow_unsafe_settings=true` is understood as well.
        options: bounds and numbers.
        allow_unsafe_settings: work with a server that may lose what it acknowledged. For throw-away data only.
        migrate: whether opening brings the schema up to date; otherwise it must be so already.
        read_only: whether the server refuses each write; behind a pooler it cannot be told to.
        patience: seconds to wait until it is, if another process sees to that, as the primary of a standby does.

    Raises:
        ValueError: the URL is malformed, or has an unknown option.
    """

    def __init__(
        self,
        url: str,
        *,
        options: PostgresOptions | None = None,
        allow_unsafe_settings: bool = False,
        migrate: bool = True,
        read_only: bool = False,
        patience: float = 0.0,
    ) -> None:
        self.options = options or PostgresOptions()
        self._address = address.parse(url)
        unsafe = allow_unsafe_settings or self._address.allow_unsafe_settings
        self._connections = Connections(self._address, self.options, allow_unsafe_settings=unsafe, read_only=read_only)
        self._may_migrate = migrate
        self._patience = patience
        self._opening = Turns()
        self._alchemy: Any = None
        self._location: schema.LogLocation | None = None
        self._users = 0

    @property
    def pooled(self) -> bool:
        """Whether a pooler such as PgBouncer stands in between: then a session's state is not Twofold's."""
        return self._connections.pooled

    async def open(self) -> None:
        """Connect, check the server and bring the schema up to date; each `open` wants its `close`.

        Raises:
            StorageError: in one of its kinds, with the remedy.
            OwnershipError: another process, event loop or thread has opened it.
        """
        if self._users:
            self._connections.check()
        async with self._opening:
            if not self._users:
                await self._prepare()
                self._connections.open()
            self._users += 1

    async def close(self) -> None:
        """Release all connections, once all who opened the database have closed it. Waits for no server.

        Raises:
            OwnershipError: another process, event loop or thread has opened it.
        """
        self._users = max(self._users - 1, 0)
        if self._users == 0:
            self._connections.close()

    def check(self) -> None:
        """Make sure that the caller may use the database.

        Raises:
            RuntimeError: it is not open.
            OwnershipError: another process, event loop or thread has opened it.
        """
        self._connections.check()

    async def connect(self, silence: float | None = None) -> BoundedConnection:
        """Return a new connection that commits each statement, which the caller closes.

        Args:
            silence: seconds for which the server may be silent in each wait; by default half of `answer_timeout`.

        Raises:
            StorageUnavailableError: there is no server, it refuses the credentials, or it has no connection left.
            UnsafeStorageError: the server's settings put what it acknowledges at risk, or would change its meaning.
        """
        return await self._connections.make(silence)

    def connection(self, silence: float | None = None) -> AbstractAsyncContextManager[BoundedConnection]:
        """Lend a connection that commits each statement; errors of the driver are translated.

        Args:
            silence: seconds for which the server may be silent in each wait; by default half of `answer_timeout`.

        Raises:
            StorageError: in one of its kinds, with the remedy.
        """
        return self._connections.lend(silence)

    def transaction(self, idle: float, silence: float | None = None) -> AbstractAsyncContextManager[BoundedConnection]:
        """Lend a connection on which a transaction has begun; commit it when the block ends, or else roll it back.

        Args:
            idle: seconds after which the server ends the transaction, once this process does nothing with it.
            silence: seconds for which the server may be silent in each wait; by default half of `answer_timeout`.

        Raises:
            StorageError: in one of its kinds, with the remedy.
        """
        return self._connections.transaction(idle, silence)

    async def ask(self, question: Callable[[Connection], Awaitable[T]], limit: float | None = None) -> T:
        """Put a question, and once more on another connection if the first one was cut or silent.

        Args:
            question: what is asked; it may be called twice.
            limit: seconds for both together; by default `answer_timeout`.

        Raises:
            StorageError: in one of its kinds, with the remedy.
        """
        return await self._connections.ask(question, limit)

    @asynccontextmanager
    async def alchemy(self) -> AsyncIterator[Any]:
        """Lend a connection of SQLAlchemy with an open transaction, which is committed when the block ends.

        Raises:
            StorageError: in one of its kinds, with the remedy.
            ModuleNotFoundError: SQLAlchemy is not installed.
        """
        from sqlalchemy.exc import DBAPIError
        from sqlalchemy.ext.asyncio import create_async_engine
        from sqlalchemy.pool import NullPool

        async def connect() -> Connection:
            connection = await self.connect(self.options.statement_timeout)
            await connection.set_autocommit(False)
            return connection

        self.check()
        self._alchemy = self._alchemy or create_async_engine(
            "postgresql+psycopg://", async_creator=connect, poolclass=NullPool
        )
        try:
            async with self._alchemy.begin() as connection:
                yield connection
        except DBAPIError as error:
            raise (translate(error.orig) if isinstance(error.orig, psycopg.Error) else error) from error
        except psycopg.Error as error:
            raise translate(error) from error

    def is_same(self, other: PostgresDatabase) -> bool:
        """Return whether both own connections to the same database."""
        return self is other or self._address == other._address

    async def refuse_another_log(self, connection: Connection, session: Session) -> None:
        """Make sure that the user's own connection leads to this log.

        Raises:
            StorageError: it is to another database, or its `search_path` leads to another schema.
            psycopg.Error: the server did not answer.
        """
        assert self._location is not None  # noqa: S101
        refuse_another_schema(session, self._location.schema)
        if (await schema.find(connection)).log_id != self._location.log_id:
            raise StorageError(
                "the connection leads to another log than the one that was opened; connect it to the same database"
            )

    async def _prepare(self) -> None:
        connection = await self.connect(self.options.maintenance_timeout)
        try:
            await self._refuse_small(connection)
            await (
                schema.migrate(connection) if self._may_migrate else schema.refuse_outdated(connection, self._patience)
            )
            self._location = await schema.find(connection)
            self._connections.schema = self._location.schema
        except psycopg.Error as error:
            raise translate(error) from error
        finally:
            await connection.close()

    async def _refuse_small(self, connection: Connection) -> None:
        if not self.pooled:
            await capacity.refuse_small_limits(connection)
            return
        deadline = time.monotonic() + self.options.answer_timeout
        while time.monotonic() < deadline:
            second = await self.connect(self.options.answer_timeout)
            second.cancel_timeout = 0.0
            try:
                # Processes that start at one moment may each have one and wait for another: some let go sooner.
                if await capacity.lends_two(connection, second, JITTER.uniform(0.1, 2.0)):
                    return
            finally:
                await second.close()
            await asyncio.sleep(JITTER.uniform(0.0, 0.5))
        raise capacity.small_pool(self.options.answer_timeout)
