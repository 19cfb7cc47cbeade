"""Appends that join a transaction of the user's own SQL, on PostgreSQL."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import psycopg
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.pq import TransactionStatus

from twofold.engines.postgres.arrays import Binary, BinaryDumper
from twofold.engines.postgres.database import Connection, PostgresDatabase, hang_up
from twofold.engines.postgres.errors import STANDBY_GAVE_UP, connection_is_lost, translate
from twofold.engines.postgres.log.batch import APPEND, Batch
from twofold.engines.postgres.log.inline import fold_in
from twofold.engines.postgres.log.reader import Reader
from twofold.errors import LimitExceededError, OutcomeUnknownError, StorageError, StorageUnavailableError
from twofold.ports.event_log import Append, Appended, Rejected
from twofold.ports.inline import Inline
from twofold.ports.watermark import Head


class PostgresJoinedTransaction:
    """See `JoinedTransaction`. The connection is a psycopg `AsyncConnection`."""

    def __init__(self, connection: Connection, inline: Sequence[Inline]) -> None:
        self.connection = connection
        self._inline = inline
        self.last = 0
        """The last position that was appended."""
        self._reader = Reader(_Joined(connection), Head())

    async def append(self, append: Append) -> Appended | Rejected:
        """See `JoinedTransaction.append`."""
        batch = Batch([await self._reader.narrowed(append)], careful=True)  # a known id must not break the transaction
        try:
            cursor = AsyncRawCursor(self.connection)
            cursor.adapters.register_dumper(Binary, BinaryDumper)
            await cursor.execute(APPEND, batch.arguments, prepare=False, binary=True)
            assert cursor.pgresult is not None  # noqa: S101
            row = [cursor.pgresult.get_value(0, column) for column in range(cursor.pgresult.nfields)]
            [outcome] = batch.outcomes(row)
            await fold_in(self.connection, [outcome], self._inline)
        except psycopg.Error as error:
            raise translate(error) from error
        except (ValueError, struct.error) as error:  # it does not even fit the protocol
            raise LimitExceededError(f"PostgreSQL cannot store such a value: {error}") from error
        if isinstance(outcome, Appended):
            self.last = outcome.last
            return outcome
        return await self._reader.explained(append, outcome)


class _Joined:
    """Lends the one connection on which the transaction is open."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        try:
            yield self._connection
        except psycopg.Error as error:
            raise translate(error) from error

    async def discard_broken(self) -> None:
        """There is no other connection: what fails, fails again."""


@asynccontextmanager
async def join(
    database: PostgresDatabase, head: Head, deadline: float, connection: Any, inline: Sequence[Inline]
) -> AsyncIterator[PostgresJoinedTransaction]:
    """See `JoinableLog.transaction`. Errors of the user's own SQL pass through as they are.

    Raises:
        OutcomeUnknownError: it could not be learnt whether the transaction was committed. It is not tried again, as
            the user's SQL is in it: look for the rows, or for the event ids.
        TypeError, ValueError: it is not such a connection, or no transaction is open on it.
    """
    if connection is not None:
        yield PostgresJoinedTransaction(await _driver_connection(connection), inline)
        return
    own = await database.connect()
    doubts: list[str] = []
    own.add_notice_handler(lambda notice: doubts.append(str(notice.sqlstate)))
    try:
        await own.set_autocommit(False)
        joined = PostgresJoinedTransaction(own, inline)
        yield joined
        doubts.clear()
        await _commit(own, deadline)
        if STANDBY_GAVE_UP.intersection(doubts):
            raise OutcomeUnknownError("the wait for the synchronous standby was ended; the commit may be lost with it")
        head.advance(joined.last)
    finally:
        await own.close()  # rolls back what is not committed


async def _commit(connection: Connection, deadline: float) -> None:
    """Commit; a caller that is cancelled does not stop it half-way, and a server that does not answer is hung up on."""
    if connection.closed:
        raise StorageUnavailableError("the connection was lost before the commit, so that nothing was stored")
    if connection.info.transaction_status is TransactionStatus.INERROR:  # COMMIT would roll back without an error
        raise StorageError("a statement of the transaction has failed before, so that nothing of it was stored")
    committing = asyncio.create_task(connection.commit(), name="twofold-postgres-commit")
    late = asyncio.get_running_loop().call_later(deadline, hang_up, connection)
    try:
        await asyncio.shield(committing)
    except asyncio.CancelledError:
        await asyncio.gather(committing, return_exceptions=True)
        raise
    except psycopg.Error as error:
        if connection_is_lost(error):
            raise OutcomeUnknownError(
                f"the connection was lost during the commit, which may have succeeded: {error}"
            ) from error
        raise translate(error) from error
    finally:
        late.cancel()


async def _driver_connection(connection: Any) -> Connection:
    """Return the driver's connection behind a connection of the driver or of SQLAlchemy."""
    driver = connection
    if hasattr(connection, "get_raw_connection"):  # SQLAlchemy: only what it has begun does it commit
        if not connection.in_transaction():
            raise ValueError("there is no open transaction to join; use `async with engine.begin() as connection`")
        driver = await connection.get_raw_connection()
    driver = getattr(driver, "driver_connection", driver)
    if not isinstance(driver, AsyncConnection):
        raise TypeError(
            f"expected a psycopg AsyncConnection or a SQLAlchemy AsyncConnection on one, got {connection!r}"
        )
    if driver.autocommit and driver.info.transaction_status is TransactionStatus.IDLE:
        raise ValueError("there is no open transaction to join; use `async with connection.transaction()`")
    return cast(Connection, driver)
