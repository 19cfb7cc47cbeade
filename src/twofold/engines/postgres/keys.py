"""Keys in a schema of their own in a PostgreSQL database, that of the log or another one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import RLock
from typing import Any

import psycopg
from psycopg import sql as composed

from twofold.engines.postgres import address
from twofold.engines.postgres.errors import connection_is_lost, translate
from twofold.errors import StorageError
from twofold.ports.keys.sql_keys import Run, SqlKeyStore
from twofold.ports.sql import in_format

SCHEMA = "twofold_keys"
"""stored: where the keys are."""


class PostgresKeySession:
    """A connection to the database of the keys, which all threads of a process share.

    A connection that was lost is replaced once for each call: all statements may be repeated.

    Args:
        url: the database.
        timeout: seconds to wait for the server, and for each statement.
    """

    bytes_type = "bytea"
    ids = "SELECT value FROM json_array_elements_text(CAST(:ids AS json)) AS each(value)"

    def __init__(self, url: str, timeout: float) -> None:
        self._address = address.parse(url)
        self._timeout = timeout
        self._lock = RLock()
        self._connection: psycopg.Connection[Any] | None = None
        self._is_open = False

    def open(self, make: str) -> None:
        """Connect, and make the schema if there is none."""
        self._is_open = True
        if self.read("SELECT to_regclass(:name) IS NOT NULL", name=f"{SCHEMA}.twofold_forgotten")[0][0]:
            return  # a role that owns nothing needs no more
        with self._lock, self._translated(), self._connected().transaction():
            run = self._connected().execute
            run("SELECT pg_advisory_xact_lock(hashtext(%s))", (SCHEMA,))
            run(composed.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(composed.Identifier(SCHEMA)))
            run(make.encode())

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._is_open = False
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def read(self, sql: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Return the rows of a query; it is asked again once, if the connection was lost."""
        with self._lock, self._translated():
            try:
                return _rows(self._connected(), sql, parameters)
            except psycopg.Error as error:
                if not connection_is_lost(error):
                    raise
                return _rows(self._connected(), sql, parameters)

    @contextmanager
    def writing(self) -> Iterator[Run]:
        """Open a transaction that holds the lock of all who write."""
        with self._lock, self._translated(), self._reachable().transaction():
            connection = self._connected()
            connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (SCHEMA,))
            yield lambda sql, **parameters: _rows(connection, sql, parameters)

    def purge(self) -> None:
        """Vacuum the table of the keys: the dead rows of what was destroyed give their space back."""
        with self._lock, self._translated():
            self._reachable().execute("VACUUM FULL twofold_keys")

    def _reachable(self) -> psycopg.Connection[Any]:
        """Return a connection that has just answered."""
        with suppress(psycopg.Error):
            self._connected().execute("SELECT 1")
        return self._connected()

    def _connected(self) -> psycopg.Connection[Any]:
        if not self._is_open:
            raise StorageError(f"the key store {self._address.name} is not open; start the application first")
        if self._connection is None or self._connection.closed:
            seconds = max(1, round(self._timeout))
            known: dict[str, Any] = {"connect_timeout": seconds} | self._address.parameters
            self._connection = psycopg.connect(**known, autocommit=True)
            self._connection.execute(
                "SELECT set_config('search_path', %s, false), set_config('statement_timeout', %s, false),"
                " set_config('synchronous_commit', 'on', false)",
                (SCHEMA, f"{seconds}s"),
            )
        return self._connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise translate(error) from error


def postgres_key_store(url: str, *, timeout: float) -> SqlKeyStore:
    """Return the key store in the schema `twofold_keys` of a database.

    Args:
        url: the database.
        timeout: seconds to wait for the server, and for each statement.
    """
    return SqlKeyStore(PostgresKeySession(url, timeout))


def _rows(connection: psycopg.Connection[Any], sql: str, parameters: dict[str, Any]) -> Sequence[Sequence[Any]]:
    cursor = connection.execute(in_format(sql).encode(), parameters or None)
    return cursor.fetchall() if cursor.description else ()
