"""One SQLite database in memory, on one connection and without threads."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TypeVar

from twofold.engines.sqlite.database import add_functions
from twofold.engines.sqlite.errors import DRIVER_ERRORS, translate
from twofold.engines.sqlite.log.inline import Answer, answer
from twofold.engines.sqlite.migration import migrate_file
from twofold.ports.owner import Owner, not_open

T = TypeVar("T")

NAME = Path("memory:")
"""Stands for the file's path in the texts of errors."""


class MemoryDatabase:
    """Owner of a database in memory. What it holds lives as long as the object does, closed or open.

    Transactions take turns. While one is open, reading shows what was committed before it.
    """

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None
        self._owner: Owner | None = None
        self.answer_to: Answer = answer
        """Answers what an inline projection asks for."""
        self.after_commit: Callable[[], object] = lambda: None
        self.after_rollback: Callable[[], object] = lambda: None
        """What the log does at the end of a transaction that has appended to it."""
        self._image = b""
        """What was committed: while a transaction is open, and while the database is closed."""

    async def open(self) -> None:
        """Make the database, or what it held when it was closed; does nothing when it is open.

        Raises:
            OwnershipError: another process or event loop has opened it.
        """
        self.check_owner()
        if self._connection is None:
            self._owner = Owner("the database in memory")
            self._turn = asyncio.Lock()
            self._connection = _connect(self._image)
            migrate_file(self._connection)

    async def close(self) -> None:
        """Close the connection and keep what it held; may be repeated.

        Raises:
            OwnershipError: another process or event loop has opened it.
        """
        self.check_owner()
        if self._connection is not None:
            self._image = self._connection.serialize()
            self._connection.close()
            self._connection = self._owner = None

    def check_owner(self) -> None:
        """Make sure that the caller may use the database, if it is open.

        Raises:
            OwnershipError: another process or event loop has opened it.
        """
        if self._owner is not None:
            self._owner.check()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[sqlite3.Connection]:
        """Lend the connection; no other task writes before the block ends, and reading shows what was there before it.

        Raises:
            OwnershipError: another process or event loop has opened the database.
        """
        connection = self._opened()
        async with self._turn:
            self._image = connection.serialize()
            try:
                yield connection
            finally:
                self._image = b""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[sqlite3.Connection]:
        """Lend the connection with an open transaction, which is committed when the block ends, or rolled back.

        Raises:
            StorageError: nothing was written.
        """
        async with self.turn() as connection:
            try:
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
                self._end_append(self.after_commit)
            except BaseException as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._end_append(self.after_rollback)
                if isinstance(error, DRIVER_ERRORS):
                    raise translate(error, NAME) from error
                raise

    def read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `job` reads of what is committed.

        Raises:
            OwnershipError: another process or event loop has opened the database.
            StorageError: the statement failed.
        """
        connection = self._opened()
        try:
            if not self._image:
                return job(connection)
            with closing(_connect(self._image)) as committed:
                return job(committed)
        except DRIVER_ERRORS as error:
            raise translate(error, NAME) from error

    def _end_append(self, finish: Callable[[], object]) -> None:
        self.after_commit = self.after_rollback = lambda: None
        finish()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise not_open("the database in memory")
        self.check_owner()
        return self._connection


def _connect(image: bytes) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    add_functions(connection)
    if image:
        connection.deserialize(image)
    return connection
