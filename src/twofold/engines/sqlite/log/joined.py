"""Appends that join a transaction of the user's own SQL, on SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from twofold.engines.sqlite.database import SqliteDatabase, add_clock
from twofold.engines.sqlite.errors import translate
from twofold.engines.sqlite.log.appending import append_to
from twofold.engines.sqlite.log.inline import append_at_once
from twofold.engines.sqlite.threads import run_in_thread
from twofold.engines.sqlite.transaction import Transaction
from twofold.ports.event_log import Append, Appended, Rejected
from twofold.ports.inline import Inline


class SqliteJoinedTransaction:
    """See `JoinedTransaction`. The connection may be used from any thread, by one at a time."""

    def __init__(self, connection: sqlite3.Connection, inline: Sequence[Inline]) -> None:
        self.connection = connection
        self._inline = inline
        if inline:
            add_clock(connection)

    async def append(self, append: Append) -> Appended | Rejected:
        """See `JoinedTransaction.append`."""
        if self._inline:
            return await run_in_thread(append_at_once, self.connection, append, self._inline)
        return await run_in_thread(append_to, Transaction(self.connection, careful=True), append)


@asynccontextmanager
async def join(
    database: SqliteDatabase, connection: Any, inline: Sequence[Inline]
) -> AsyncIterator[SqliteJoinedTransaction]:
    """See `JoinableLog.transaction`. SQLite has one writer at a time: other appends wait until the block has ended."""
    if connection is not None:
        yield SqliteJoinedTransaction(joinable(connection), inline)
        return
    own = await run_in_thread(database.connect)
    try:
        await run_in_thread(own.execute, "BEGIN IMMEDIATE")
        yield SqliteJoinedTransaction(own, inline)
        await run_in_thread(own.execute, "COMMIT")
    except sqlite3.Error as error:
        raise translate(error, database.path) from error
    finally:
        own.close()  # rolls back what is not committed


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
