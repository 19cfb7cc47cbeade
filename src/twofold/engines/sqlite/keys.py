"""Keys in a SQLite file of their own.

The file has a rollback journal and `secure_delete`: what is destroyed is overwritten in the file, and no write-ahead
log keeps it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from twofold.engines.sqlite.errors import DRIVER_ERRORS, translate
from twofold.errors import StorageError
from twofold.ports.keys.sql_keys import Run, SqlKeyStore


class SqliteKeySession:
    """A connection to the file of the keys, which all threads of a process share.

    Args:
        path: the file; None: in memory.
        timeout: seconds to wait for another process that writes.
    """

    bytes_type = "blob"
    ids = "SELECT value FROM json_each(:ids)"

    def __init__(self, path: Path | None, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._lock = RLock()
        self._connection: sqlite3.Connection | None = None
        self._image = b""
        """What it held when it was closed, in memory."""

    def open(self, make: str) -> None:
        """Open the file, and make it if there is none."""
        with self._lock, self._translated():
            if self._connection is not None:
                return
            self._connection = sqlite3.connect(
                self._path or ":memory:", timeout=self._timeout, isolation_level=None, check_same_thread=False
            )
            if self._image:
                self._connection.deserialize(self._image)
            self._connection.execute("PRAGMA journal_mode = DELETE")
            self._connection.execute("PRAGMA secure_delete = ON")
            self._connection.execute("PRAGMA synchronous = EXTRA")
            self._connection.executescript(make)

    def close(self) -> None:
        """Close the file; what is in memory is there again when it is opened again."""
        with self._lock:
            if self._connection is not None:
                self._image = b"" if self._path else self._connection.serialize()
                self._connection.close()
                self._connection = None

    def read(self, sql: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Return the rows of a query."""
        with self._lock, self._translated():
            return self._opened.execute(sql, parameters).fetchall()

    @contextmanager
    def writing(self) -> Iterator[Run]:
        """Open a transaction that holds the lock of the file from the beginning."""
        with self._lock, self._translated():
            connection = self._opened
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield lambda sql, **parameters: connection.execute(sql, parameters).fetchall()
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def purge(self) -> None:
        """Write the file again, without free pages."""
        with self._lock, self._translated():
            self._opened.execute("VACUUM")

    @property
    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StorageError(f"the key store {self._path or 'in memory'} is not open; start the application first")
        return self._connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DRIVER_ERRORS as error:
            raise translate(error, self._path or Path(":memory:")) from error


def sqlite_key_store(path: Path | None, *, timeout: float) -> SqlKeyStore:
    """Return the key store in a file; None: in memory, for tests.

    Args:
        path: the file.
        timeout: seconds to wait for another process that writes.
    """
    return SqlKeyStore(SqliteKeySession(path, timeout))
