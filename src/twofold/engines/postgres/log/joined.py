"""Appends that join a transaction of the user's own SQL, on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus

from twofold.engines.archive_folder import ArchiveFolder
from twofold.engines.postgres.connection import BoundedConnection, Connection, hang_up
from twofold.engines.postgres.database import PostgresDatabase
from twofold.engines.postgres.errors import STANDBY_GAVE_UP, connection_is_lost, translate
from twofold.engines.postgres.log.batch import Outcome
from twofold.engines.postgres.log.inline import fold_in, store
from twofold.engines.postgres.log.reader import Reader
from twofold.engines.postgres.session import Session, give_back_settings, lend_settings, look, refuse_misfits
from twofold.errors import OutcomeUnknownError, StorageError, StorageUnavailableError
from twofold.ports.event_log import Append, Appended, Rejected
from twofold.ports.inline import Inline
from twofold.ports.watermark import Watermark

T = TypeVar("T")


class PostgresJoinedTransaction:
    """An open transaction that appends can join.

    Args:
        connection: a psycopg `AsyncConnection`.
        inline: what is folded in the same transaction.
        archive: where payloads of closed streams may be.
        session: what the session of the user's own connection is like; None on one of Twofold's.
        patience: seconds in which a round trip must end on the user's own connection.
    """

    def __init__(
        self,
        connection: Connection,
        inline: Sequence[Inline],
        archive: ArchiveFolder,
        session: Session | None = None,
        patience: float = 0.0,
    ) -> None:
        self.connection = connection
        self._inline = inline
        self._session = session
        self._patience = patience
        self.last = 0
        """The last position that was appended."""
        self._reader = Reader(_Joined(connection), Watermark(), archive=archive)

    async def append(self, append: Append) -> Appended | Rejected:
        async with _bounded(self.connection, self._patience), self._fit():
            narrowed = await self._reader.narrowed(append)
            outcome = await self._append(narrowed)
            if isinstance(outcome, Appended):
                self.last = outcome.last
                return outcome
            return await self._reader.explained(append, outcome)

    async def _append(self, append: Append) -> Outcome:
        try:
            outcome = await store(self.connection, append)
            await fold_in(self.connection, [outcome], self._inline)
        except psycopg.Error as error:
            raise translate(error) from error
        return outcome

    @asynccontextmanager
    async def _fit(self) -> AsyncIterator[None]:
        """Give the user's own session the settings that an append needs, for its time only."""
        if self._session is None:
            yield
            return
        await lend_settings(self.connection, self._session)
        yield
        await give_back_settings(self.connection, self._session)


class _Joined:
    """Puts questions on the one connection on which the transaction is open: what fails, fails again."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def ask(self, question: Callable[[Connection], Awaitable[T]], limit: float | None = None) -> T:
        try:
            return await question(self._connection)
        except psycopg.Error as error:
            raise translate(error) from error


@asynccontextmanager
async def join(
    database: PostgresDatabase, head: Watermark, connection: Any, inline: Sequence[Inline], archive: ArchiveFolder
) -> AsyncIterator[PostgresJoinedTransaction]:
    """Join the user's own transaction, or open one. Errors of the user's own SQL pass through unchanged.

    Raises:
        OutcomeUnknownError: it could not be learnt whether the transaction was committed. It is not tried again, as
            the user's SQL is in it: repeat the whole with the same event ids.
        StorageError: the session of the user's connection cannot take events, or leads to another log.
        TypeError, ValueError: it is not such a connection, or no transaction is open on it.
    """
    if connection is not None:
        driver, patience = await _driver_connection(connection), database.options.statement_timeout
        async with _bounded(driver, patience):
            session = await _examined(database, driver)
        yield PostgresJoinedTransaction(driver, inline, archive, session, patience)
        return
    database.check()
    own = await database.connect(database.options.statement_timeout)
    doubts: list[str] = []
    own.add_notice_handler(lambda notice: doubts.append(str(notice.sqlstate)))
    try:
        await own.set_autocommit(False)
        joined = PostgresJoinedTransaction(own, inline, archive)
        yield joined
        doubts.clear()
        own.silence = database.options.append_timeout
        await _commit(own)
        if STANDBY_GAVE_UP.intersection(doubts):
            raise OutcomeUnknownError("the wait for the synchronous standby was ended; the commit may be lost with it")
        head.advance(joined.last)
    finally:
        await own.close()  # rolls back what is not committed


async def _examined(database: PostgresDatabase, connection: Connection) -> Session:
    """Look at the session of the user's own connection before anything of the transaction depends on it."""
    database.check()
    try:
        session = await look(connection)
        refuse_misfits(session)
        await database.refuse_another_log(connection, session)
    except psycopg.Error as error:
        raise translate(error) from error
    return session


@asynccontextmanager
async def _bounded(connection: Connection, seconds: float) -> AsyncIterator[None]:
    """Hang up on the server of the user's own connection at the end of the time; Twofold's own have their bounds."""
    if isinstance(connection, BoundedConnection):
        yield
        return
    late = asyncio.get_running_loop().call_later(seconds, hang_up, connection)
    try:
        yield
    finally:
        late.cancel()


async def _commit(connection: Connection) -> None:
    """Commit; a caller that is cancelled does not stop it half-way."""
    if connection.closed:
        raise StorageUnavailableError("the connection was lost before the commit, so that nothing was stored")
    if connection.info.transaction_status is TransactionStatus.INERROR:  # COMMIT would roll back without an error
        raise StorageError("a statement of the transaction has failed before, so that nothing of it was stored")
    committing = asyncio.create_task(connection.commit(), name="twofold-postgres-commit")
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
