"""The one place that lends connections to a PostgreSQL database, and bounds whatever is done with them.

1. Who asks takes an idle connection, or makes one, or waits for one that is lent, for a bounded time.
2. A new connection is examined, and given the settings on which bytes and meanings depend.
3. Each wait for the server on it is bounded; a silent one is hung up, and a question is asked again on another.
4. It comes back idle, or is closed: no transaction and no setting of one user reaches the next.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from twofold.engines.postgres import session
from twofold.engines.postgres.address import Address
from twofold.engines.postgres.connection import BoundedConnection, Connection
from twofold.engines.postgres.errors import connection_is_lost, translate, was_rolled_back
from twofold.engines.postgres.wire.arrays import Binary, BinaryDumper
from twofold.errors import StorageError, StorageUnavailableError
from twofold.options import PostgresOptions
from twofold.ports.owner import Owner, not_open

T = TypeVar("T")

_BEGIN = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = {}"
_IS_AT_WORK = """
    SELECT state = 'active' AND wait_event_type IS DISTINCT FROM 'Client' FROM pg_stat_activity WHERE pid = %s"""


class Connections:
    """Lends connections, at most `options.connections` at once, and makes others that their users own.

    Args:
        address: where the database is.
        options: bounds and numbers.
        allow_unsafe_settings: work with a server that may lose what it acknowledged.
        read_only: whether the server refuses each write, where there is no pooler.
    """

    def __init__(
        self,
        address: Address,
        options: PostgresOptions,
        *,
        allow_unsafe_settings: bool = False,
        read_only: bool = False,
    ) -> None:
        self.pooled = False
        """Whether a pooler such as PgBouncer stands in between: then a session's state is not Twofold's."""
        self.schema = ""
        """Where Twofold's tables are; empty until they have been made."""
        self._address = address
        self._options = options
        self._allow_unsafe_settings = allow_unsafe_settings
        self._read_only = read_only
        self._owner: Owner | None = None
        self._idle: list[BoundedConnection] = []
        self._made = 0
        self._waiting: deque[asyncio.Future[BoundedConnection | None]] = deque()

    def open(self) -> None:
        """Lend from now on, in this event loop of this process."""
        self._owner = Owner(f"the PostgreSQL database {self._address.name}")

    def close(self) -> None:
        """Close all idle connections, and those that are lent when they come back.

        Raises:
            OwnershipError: another process, event loop or thread has opened it; a child would end its sessions.
        """
        if self._owner is not None:
            self._owner.check()
        self._owner = None
        self.discard_idle()

    def check(self) -> None:
        """Make sure that the caller may use what was opened.

        Raises:
            RuntimeError: it is not open.
            OwnershipError: another process, event loop or thread has opened it.
        """
        if self._owner is None:
            raise not_open("the database")
        self._owner.check()

    async def ask(self, question: Callable[[Connection], Awaitable[T]], limit: float | None = None) -> T:
        """Put a question, and once more if its connection was cut or silent, or a standby ended it.

        Args:
            question: what is asked; it may be called twice.
            limit: seconds for both together; by default `answer_timeout`.

        Raises:
            StorageError: in one of its kinds, with the remedy.
        """
        limit = self._options.answer_timeout if limit is None else limit
        started = time.monotonic()
        try:
            return await self._put(question, limit / 2)
        except StorageError as error:
            if isinstance(error.__cause__, psycopg.Error) and was_rolled_back(error.__cause__):
                pass
            elif isinstance(error.__cause__, psycopg.Error) and connection_is_lost(error.__cause__):
                self.discard_idle()
            else:
                raise
        return await self._put(question, max(started + limit - time.monotonic(), limit / 4))

    @asynccontextmanager
    async def lend(self, silence: float | None = None) -> AsyncIterator[BoundedConnection]:
        """Lend a connection that commits each statement; errors of the driver are translated.

        Args:
            silence: seconds for which the server may be silent in each wait; by default half of `answer_timeout`.

        Raises:
            StorageError: in one of its kinds, with the remedy.
        """
        self.check()
        silence = self._options.answer_timeout / 2 if silence is None else silence
        patience, started = min(silence, self._options.answer_timeout / 2), time.monotonic()
        connection = await self._take(patience)
        spent = min(time.monotonic() - started, patience / 2)  # so that all together stays within the bound
        connection.silence = max(silence - spent, silence / 2)
        try:
            yield connection
        except psycopg.Error as error:
            raise translate(error) from error
        finally:
            await self._take_back(connection)

    @asynccontextmanager
    async def transaction(self, idle: float, silence: float | None = None) -> AsyncIterator[BoundedConnection]:
        """Lend a connection on which a transaction has begun; commit it when the block ends, or else roll it back.

        Args:
            idle: seconds after which the server ends the transaction, once this process does nothing with it.
            silence: seconds for which the server may be silent in each wait; by default half of `answer_timeout`.

        Raises:
            StorageError: in one of its kinds, with the remedy.
        """
        self.check()
        connection = await self._begun(idle, self._options.answer_timeout / 2 if silence is None else silence)
        try:
            yield connection
            if (
                connection.info.transaction_status is TransactionStatus.INERROR
            ):  # COMMIT would roll back without an error
                raise StorageError("a statement of the transaction has failed before; nothing of it is stored")
            await connection.commit()
        except psycopg.Error as error:
            raise translate(error) from error
        finally:
            await self._take_back(connection)

    async def make(self, silence: float | None = None) -> BoundedConnection:
        """Return a new connection that commits each statement, which the caller owns and closes.

        Raises:
            StorageUnavailableError: there is no server, it refuses the credentials, or it has no connection left.
            UnsafeStorageError: the server's settings put what it acknowledges at risk, or would change its meaning.
        """
        if self._owner is not None:
            self._owner.check()
        connection = await self._new()
        connection.silence = self._options.answer_timeout / 2 if silence is None else silence
        return connection

    def discard_idle(self) -> None:
        """Close the idle connections: what cut or froze one of them has done so to the others."""
        idle, self._idle = self._idle, []
        for connection in idle:
            self._forget(connection)

    async def _put(self, question: Callable[[Connection], Awaitable[T]], silence: float) -> T:
        async with self.lend(silence) as connection:
            return await question(connection)

    async def _begun(self, idle: float, silence: float) -> BoundedConnection:
        """Begin a transaction, on another connection if the first one was cut or silent."""
        begin = _BEGIN.format(max(int(idle * 1000), 1)).encode()
        for is_last in (False, True):
            connection = await self._take(self._options.answer_timeout / 2)
            connection.silence = silence
            try:
                await connection.execute(begin)
            except BaseException as error:
                await self._take_back(connection)
                if not isinstance(error, psycopg.Error):
                    raise
                if is_last or not connection_is_lost(error):
                    raise translate(error) from error
                self.discard_idle()
            else:
                break
        return connection

    async def _take(self, patience: float) -> BoundedConnection:
        deadline = time.monotonic() + patience
        while True:
            if self._idle:
                connection = self._idle.pop()
                if not connection.closed:
                    return connection
                self._forget(connection)
            elif self._made < self._options.connections:
                try:
                    return await self._added(deadline)
                except StorageUnavailableError as error:
                    if not self._made or isinstance(error.__cause__, psycopg.errors.ConnectionTimeout):
                        raise
                    # The server refuses: the role may have too many, so that this process has to do with fewer.
                    # One may have come back while no taker waited: then nothing wakes a taker that waits for it now.
                    if not self._idle and (lent := await self._next(deadline)):
                        return lent
            elif lent := await self._next(deadline):
                return lent

    async def _added(self, deadline: float) -> BoundedConnection:
        self._made += 1
        try:
            connection = await self._new(deadline)
        except BaseException as error:
            self._made -= 1
            if not self._made or not isinstance(error, StorageUnavailableError):
                self._wake(None)  # after a refusal while some are lent, the next taker would be refused, too
            raise
        connection.prepare_threshold = None if self.pooled else 5
        return connection

    async def _next(self, deadline: float) -> BoundedConnection | None:
        """Wait for a connection that comes back; None if one was closed, so that another can be made."""
        future: asyncio.Future[BoundedConnection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                return await future
        except TimeoutError:
            if future.done() and not future.cancelled():
                return future.result()  # it came at the moment in which the time was up
            raise StorageUnavailableError(
                f"all {self._made} connections to PostgreSQL are in use, and none came back in time; raise "
                f"`PostgresOptions.connections`, or let transactions be shorter"
            ) from None
        except BaseException:
            if future.done() and not future.cancelled():  # it came at the moment in which its taker was cancelled
                if connection := future.result():
                    self._give(connection)
                else:
                    self._wake(None)
            raise
        finally:
            if future in self._waiting:
                self._waiting.remove(future)

    async def _take_back(self, connection: BoundedConnection) -> None:
        try:
            if connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                await connection.rollback()
            if connection.foreign and not self.pooled and not connection.closed:
                connection.foreign = False
                await session.restore(connection, read_only=self._read_only)
        except psycopg.Error:
            self._forget(connection)
            return
        except BaseException:
            self._forget(connection)
            raise
        if connection.closed or connection.info.transaction_status is not TransactionStatus.IDLE or not self._owner:
            self._forget(connection)
        else:
            self._give(connection)

    def _give(self, connection: BoundedConnection) -> None:
        if not self._wake(connection):
            self._idle.append(connection)

    def _wake(self, connection: BoundedConnection | None) -> bool:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(connection)
                return True
        return False

    def _forget(self, connection: BoundedConnection) -> None:
        """Close a connection; one who waits may make another."""
        self._made -= 1
        if not connection.closed:
            connection._closed = True  # as its `close` does, which is a coroutine
        connection.pgconn.finish()
        self._wake(None)

    async def _new(self, deadline: float = math.inf) -> BoundedConnection:
        connection = await self._connected(deadline)
        try:
            await self._examine(connection)
        except BaseException as error:
            await connection.close()
            if isinstance(error, psycopg.Error):
                raise translate(error) from error
            raise
        return connection

    async def _connected(self, deadline: float) -> BoundedConnection:
        parameters: dict[str, Any] = {"connect_timeout": self._options.connect_timeout, **self._address.parameters}
        parameters["connect_timeout"] = max(round(float(parameters["connect_timeout"])), 2)  # libpq takes no less
        patience = max(self._options.connect_timeout, parameters["connect_timeout"]) * self._address.hosts
        patience = min(patience, max(deadline - time.monotonic(), 0.1))
        try:
            async with asyncio.timeout(patience):  # the driver's own does not cover the look-up of the host's name
                connection = await BoundedConnection.connect(autocommit=True, prepare_threshold=None, **parameters)
        except TimeoutError:
            raise StorageUnavailableError(
                f"PostgreSQL cannot be reached: {self._address.name} did not answer within {patience:.1f} s"
            ) from psycopg.errors.ConnectionTimeout("no answer")
        except psycopg.Error as error:
            raise translate(error) from error
        connection.silence = self._options.connect_timeout
        connection.adapters.register_dumper(Binary, BinaryDumper)
        return connection

    async def _examine(self, connection: BoundedConnection) -> None:
        """Ask once per connection, as a server may come back with other settings than it went with."""
        found = await session.look(connection)
        self.pooled = found.backend != connection.info.backend_pid
        if not self._allow_unsafe_settings:
            session.refuse_danger(found)
        session.refuse_misfits(found)
        if self.schema:
            session.refuse_another_schema(found, self.schema)
        await session.prepare(connection, found, pooled=self.pooled, read_only=self._read_only)
        connection.suspicion = self._options.silence_timeout
        connection.cancel_timeout = self._options.cancel_timeout
        connection.read_turn = self._options.read_turn
        connection.probe = partial(self._is_at_work, found.backend)

    async def _is_at_work(self, backend: int) -> bool:
        """Ask on a connection of its own whether the server knows of a statement that a backend carries out.

        Behind a pooler, the backend is not known: that it answers at all has to do.
        """
        async with asyncio.timeout(self._options.silence_timeout):
            connection = await BoundedConnection.connect(autocommit=True, **self._address.parameters)
            try:
                if self.pooled:
                    await connection.execute("SELECT 1")
                    return True
                row = await (await connection.execute(_IS_AT_WORK, (backend,))).fetchone()
                return bool(row and row[0])
            finally:
                connection.pgconn.finish()
