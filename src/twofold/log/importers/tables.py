"""Reads tables of a database that is not Twofold's, in one transaction that sees one moment and changes nothing."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from twofold.errors import StorageError
from twofold.tasks import run_in_thread

SQLITE, POSTGRES = "sqlite:///", ("postgresql://", "postgres://")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
Row = Mapping[str, Any]


class Tables(Protocol):
    """The tables of a database."""

    is_postgres: bool

    async def read(self, statement: str, values: Sequence[object]) -> Sequence[Row]:
        """Return rows by the names of their columns; `?` stands for a value.

        Raises:
            StorageError: the database failed, or lacks the table.
        """


@asynccontextmanager
async def open_tables(url: str) -> AsyncIterator[Tables]:
    """Open a database to read it.

    Raises:
        ValueError: the URL names no SQLite file and no PostgreSQL database.
        ModuleNotFoundError: PostgreSQL needs its extra, `twofold[postgres]`.
        StorageError: it cannot be opened.
    """
    if url.startswith(SQLITE):
        tables: _SqliteTables | _PostgresTables = _SqliteTables(Path(url.removeprefix(SQLITE).partition("?")[0]))
    elif url.startswith(POSTGRES):
        tables = _PostgresTables()
    else:
        raise ValueError("the address of another store is sqlite:///path.db or postgresql://user@host/database")
    await tables.open(url)
    try:
        yield tables
    finally:
        await tables.close()


def quoted(table: str) -> str:
    """Return the name of a table as SQL has it; it may have a schema in front.

    Raises:
        ValueError: it is no name.
    """
    parts = table.split(".")
    if len(parts) > 2 or not all(map(_NAME.fullmatch, parts)):
        raise ValueError(f"`table` is {table!r}, which names no table; write stored_events or schema.stored_events")
    return ".".join(f'"{part}"' for part in parts)


class _SqliteTables:
    """The tables of a SQLite file."""

    is_postgres = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    async def open(self, url: str) -> None:
        """Begin the transaction."""
        await run_in_thread(self._open)

    def _open(self) -> None:
        if not self._path.exists():
            raise StorageError(f"{self._path}: there is no such file")
        try:
            connection = sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False)
        except sqlite3.Error as error:
            raise StorageError(f"{self._path}: {error}") from error
        connection.isolation_level = None
        connection.row_factory = sqlite3.Row
        self._connection = connection
        self._query("BEGIN", ())

    async def read(self, statement: str, values: Sequence[object]) -> Sequence[Row]:
        """Do what `Tables.read` promises."""
        return await run_in_thread(self._query, statement, values)

    async def close(self) -> None:
        """End the transaction."""
        if self._connection is not None:
            self._connection.close()

    def _query(self, statement: str, values: Sequence[object]) -> list[Row]:
        assert self._connection is not None  # noqa: S101
        try:
            return [dict(row) for row in self._connection.execute(statement, tuple(values))]
        except sqlite3.Error as error:
            raise StorageError(f"{self._path}: {error}") from error


class _PostgresTables:
    """The tables of a PostgreSQL database."""

    is_postgres = True

    def __init__(self) -> None:
        try:
            import psycopg
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("PostgreSQL needs psycopg: pip install 'twofold[postgres]'") from error
        self._psycopg: Any = psycopg
        self._connection: Any = None

    async def open(self, url: str) -> None:
        """Begin the transaction."""
        from psycopg.rows import dict_row

        try:
            self._connection = await self._psycopg.AsyncConnection.connect(url, row_factory=dict_row)
            await self._connection.set_read_only(True)
            await self._connection.set_isolation_level(self._psycopg.IsolationLevel.REPEATABLE_READ)
        except self._psycopg.Error as error:
            raise StorageError(f"the database cannot be opened: {error}") from error

    async def read(self, statement: str, values: Sequence[object]) -> Sequence[Row]:
        """Do what `Tables.read` promises."""
        try:
            cursor = await self._connection.execute(statement.replace("?", "%s"), values)
            rows: list[Row] = await cursor.fetchall()
        except self._psycopg.Error as error:
            raise StorageError(f"the database cannot be read: {str(error).splitlines()[0]}") from error
        return rows

    async def close(self) -> None:
        """End the transaction."""
        if self._connection is not None:
            await self._connection.close()
