"""One PostgreSQL database: its connections, its schema, and whether it may be trusted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from twofold.engines.postgres import address
from twofold.engines.postgres.errors import translate
from twofold.errors import StorageError, UnsafeStorageError
from twofold.ports import migrations

Connection = AsyncConnection[tuple[Any, ...]]

MIGRATION_LOCK = 0x74776F666F6C64  # "twofold"
MIGRATING = 0.1
"""Seconds between two looks whether somebody has brought the schema up to date."""
_SETTINGS: LiteralString = """
    SELECT pg_backend_pid(), current_setting('default_transaction_isolation'),
        current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),
        current_setting('data_checksums')"""
_REMEDIES = {
    "fsync": "set it to on: a crash of the machine destroys the database otherwise",
    "full_page_writes": "set it to on: a power cut tears pages otherwise",
    "synchronous_commit": "set it to on for this role and database: a crash loses acknowledged events otherwise",
    "data_checksums": "run pg_checksums --enable on the stopped cluster: damaged pages are not noticed otherwise",
}


class PostgresDatabase:
    """Owner of the connections to a database. The event log and the read models in one database share one.

    Works behind PgBouncer in transaction mode too, which is noticed by itself: then no statement is prepared.

    Args:
        url: `postgresql://user:password@host/database`. `?allow_unsafe_settings=true` is understood as well.
        connections: at most so many for reading; an event log has one more for appends, and one to listen.
        allow_unsafe_settings: work with a server that may lose what it acknowledged. For throw-away data only.
        timeout: seconds to wait for a free connection.
        migrate: whether opening brings the schema up to date; otherwise it must be so already.
        patience: seconds to wait until it is, if somebody else sees to that, as the primary of a standby does.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int = 8,
        allow_unsafe_settings: bool = False,
        timeout: float = 30.0,
        migrate: bool = True,
        patience: float = 0.0,
    ) -> None:
        parsed = address.parse(url)
        self._url = parsed.url
        self._allow_unsafe_settings = allow_unsafe_settings or parsed.allow_unsafe_settings
        self._size = connections
        self._timeout = timeout
        self._may_migrate = migrate
        self._patience = patience
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._opening = asyncio.Lock()
        self._alchemy: Any = None
        self._users = 0
        self.pooled = False
        """Whether a pooler such as PgBouncer stands in between: then a session's state is not ours."""

    async def open(self) -> None:
        """Connect, check the server's settings and bring the schema up to date; each `open` wants its `close`.

        Raises:
            StorageError: in one of its kinds, with the remedy.
        """
        async with self._opening:
            if self._pool is None:
                connection = await self.connect()
                try:
                    await (_migrate(connection) if self._may_migrate else _refuse_outdated(connection, self._patience))
                except psycopg.Error as error:
                    raise translate(error) from error
                finally:
                    await connection.close()
                self._pool = self._make_pool()
                await self._pool.open()
            self._users += 1

    async def close(self) -> None:
        """Release all connections, once everybody who opened it has closed it."""
        self._users = max(self._users - 1, 0)
        if self._users == 0 and self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.close()

    async def connect(self) -> Connection:
        """Return a new connection that commits each statement, which the caller closes.

        Raises:
            StorageUnavailableError: there is no server, or it refuses us.
            UnsafeStorageError: the server's settings put what it acknowledges at risk.
        """
        try:
            connection = await AsyncConnection.connect(self._url, autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            raise translate(error) from error
        try:
            await self._examine(connection)
        except BaseException as error:
            await connection.close()
            if isinstance(error, psycopg.Error):
                raise translate(error) from error
            raise
        return connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection that commits each statement; errors of the driver are translated.

        Raises:
            StorageError: in one of its kinds, with the remedy.
        """
        if self._pool is None:
            raise RuntimeError("the database is not open; use `async with`, or await open() first")
        try:
            async with self._pool.connection() as connection:
                yield connection
        except psycopg.Error as error:
            raise translate(error) from error

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
            connection = await self.connect()
            await connection.set_autocommit(False)
            return connection

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
        return self is other or self._url == other._url

    async def discard_broken(self) -> None:
        """Replace the idle connections that a restart of the server has cut."""
        if self._pool is not None:
            await self._pool.check()

    def _make_pool(self) -> AsyncConnectionPool[Connection]:
        return AsyncConnectionPool(
            self._url,
            min_size=1,
            max_size=self._size,
            timeout=self._timeout,
            open=False,
            kwargs={"autocommit": True, "prepare_threshold": None if self.pooled else 5},
            configure=self._examine,
            name="twofold",
        )

    async def _examine(self, connection: Connection) -> None:
        """Ask once per connection, as a server may come back with other settings than it went with."""
        row = await (await connection.execute(_SETTINGS)).fetchone()
        assert row is not None  # noqa: S101
        backend, isolation, *settings = row
        self.pooled = backend != connection.info.backend_pid
        if not self._allow_unsafe_settings:
            for (name, remedy), setting in zip(_REMEDIES.items(), settings, strict=True):
                if setting == "off":
                    raise UnsafeStorageError(
                        f"PostgreSQL runs with {name} = off; {remedy}. "
                        f"`{address.ALLOW_UNSAFE_SETTINGS}=true` in the URL accepts that"
                    )
        if isolation != "read committed":
            if self.pooled:
                raise UnsafeStorageError(
                    f"default_transaction_isolation = {isolation!r}, but appends need to see what was committed while "
                    f"they waited; set it to 'read committed' for this role"
                )
            await connection.execute("SET default_transaction_isolation TO 'read committed'")


def hang_up(connection: Connection) -> None:
    """Cut a connection whose server does not answer; what waits for the answer gets an error."""
    if not connection.closed:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)


async def _migrate(connection: Connection) -> None:
    """Apply what is missing in one transaction, under a lock, so that of several processes one does it."""
    known = migrations.load("twofold.engines.postgres")
    if await _applied(connection) == len(known):
        return  # a role that may only append needs no more
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS twofold_migrations"
            " (number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        for migration in migrations.pending(known, await _applied(connection)):
            await connection.execute(migration.sql.encode())
            await connection.execute("INSERT INTO twofold_migrations VALUES (%s, %s)", migration[:2])


async def _refuse_outdated(connection: Connection, patience: float) -> None:
    """Look at a database without changing anything."""
    known, deadline = migrations.load("twofold.engines.postgres"), time.monotonic() + patience
    while migrations.pending(known, applied := await _applied(connection)):
        if time.monotonic() >= deadline:
            raise StorageError(
                f"the database is at migration {applied} of {len(known)}; run `twofold migrate` on it first"
            )
        await asyncio.sleep(MIGRATING)


async def _applied(connection: Connection) -> int:
    found = await (await connection.execute("SELECT to_regclass('twofold_migrations')")).fetchone()
    if found == (None,):
        return 0
    row = await (await connection.execute("SELECT coalesce(max(number), 0) FROM twofold_migrations")).fetchone()
    assert row is not None  # noqa: S101
    return int(row[0])
