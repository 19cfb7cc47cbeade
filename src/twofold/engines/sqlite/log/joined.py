"""Appends that join a transaction of the user's own SQL, on SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from twofold.engines.archive_folder import ArchiveFolder
from twofold.engines.sqlite.database import SqliteDatabase, add_functions, knows_functions
from twofold.engines.sqlite.errors import DRIVER_ERRORS, translate
from twofold.engines.sqlite.log.appending import append_to
from twofold.engines.sqlite.log.inline import append_at_once
from twofold.engines.sqlite.transaction import Transaction
from twofold.errors import LimitExceededError, StorageUnavailableError
from twofold.ports.event_log import Append, Appended, Rejected
from twofold.ports.inline import Inline
from twofold.tasks import run_in_thread


class SqliteJoinedTransaction:
    """An open transaction that appends can join. The connection may be used from any thread, by one at a time."""

    def __init__(
        self, connection: sqlite3.Connection, path: Path, inline: Sequence[Inline], archive: ArchiveFolder
    ) -> None:
        self.connection = connection
        self._archive = archive
        self._path = path
        self._inline = inline
        if inline and not knows_functions(connection):
            add_functions(connection)

    async def append(self, append: Append) -> Appended | Rejected:
        try:
            if self._inline:
                outcome = await run_in_thread(append_at_once, self.connection, append, self._inline)
            else:
                outcome = await run_in_thread(append_to, Transaction(self.connection, careful=True), append)
        except DRIVER_ERRORS as error:
            raise translate(error, self._path) from error
        except (OverflowError, UnicodeError) as error:
            raise LimitExceededError(f"SQLite cannot store such a value: {error}; nothing was stored") from error
        return await self._archive.with_payloads(outcome)


@asynccontextmanager
async def join(
    database: SqliteDatabase, connection: Any, inline: Sequence[Inline], turns: asyncio.Lock, archive: ArchiveFolder
) -> AsyncIterator[SqliteJoinedTransaction]:
    """Open a transaction, or join one. SQLite has one writer at a time: other appends wait until the block has ended.

    Errors of the user's own SQL pass through unchanged.

    Raises:
        OutcomeUnknownError: the commit failed in a way that leaves the outcome open.
    """
    if connection is not None:
        yield SqliteJoinedTransaction(joinable(connection), database.path, inline, archive)
        return
    database.check()
    since = time.monotonic()
    async with _turn(turns, database):
        own = await run_in_thread(database.connect)
        try:
            try:
                left = max(database.options.lock_timeout - (time.monotonic() - since), 0.001)
                await run_in_thread(own.execute, f"PRAGMA busy_timeout = {round(left * 1000)}")
                await run_in_thread(own.execute, "BEGIN IMMEDIATE")
            except DRIVER_ERRORS as error:
                raise translate(error, database.path) from error
            yield SqliteJoinedTransaction(own, database.path, inline, archive)
            await run_in_thread(database.commit, own)
        finally:
            own.close()  # rolls back what is not committed


@asynccontextmanager
async def _turn(turns: asyncio.Lock, database: SqliteDatabase) -> AsyncIterator[None]:
    """Wait for the transactions of this process. In threads, they would take all threads from the one that has begun.

    Raises:
        StorageUnavailableError: the others have not ended within the time-out for locks.
    """
    try:
        async with asyncio.timeout(database.options.lock_timeout):
            await turns.acquire()
    except TimeoutError:
        raise StorageUnavailableError(
            f"{database.path}: another transaction of this process has been open for {database.options.lock_timeout:g} "
            f"seconds; keep `store.transaction()` short, and open none within another"
        ) from None
    try:
        yield
    finally:
        turns.release()


def joinable(connection: Any) -> sqlite3.Connection:
    """Return the driver's connection behind a connection of the driver or of SQLAlchemy, with its open transaction.

    Raises:
        TypeError: it is neither.
        ValueError: no transaction is open, so that each statement would be committed by itself, or never.
    """
    driver = getattr(getattr(connection, "connection", connection), "driver_connection", connection)
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError(f"expected a sqlite3 connection or a SQLAlchemy connection on one, got {connection!r}")
    if driver is not connection and connection.in_transaction() and not driver.in_transaction:
        driver.execute("BEGIN IMMEDIATE")  # SQLAlchemy leaves that to the driver, which waits for the first change
    if not driver.in_transaction:
        raise ValueError("there is no open transaction to join; BEGIN IMMEDIATE one before")
    return driver
