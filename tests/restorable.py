"""Databases that a test puts back to an older state, as a lossy fail-over and an operator with a backup do."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, Self

import psycopg
from tests.postgres_servers import PostgresServer


class Restorable(Protocol):
    """A database at an address that stays the same, whatever is put there."""

    url: str

    def save(self) -> None:
        """Keep today's state."""

    def put_back(self) -> None:
        """Put the state that was kept in the place of what is there, while processes work with it."""

    def put_new(self) -> None:
        """Put an empty database in the place of what is there, while no process works with it."""


class SqliteFile:
    """A file that is restored in place by SQLite's own backup, under whoever has it open."""

    def __init__(self, folder: Path) -> None:
        self._path, self._backup = folder / "log.db", folder / "backup.db"
        self.url = f"sqlite:///{self._path}"

    @classmethod
    def at(cls, url: str) -> Self:
        """Return the file at a URL."""
        path = Path(url.removeprefix("sqlite:///"))
        file = cls(path.parent)
        file.url, file._path = url, path
        return file

    def save(self) -> None:
        _copy(self._path, self._backup)

    def put_back(self) -> None:
        _copy(self._backup, self._path)

    def put_new(self) -> None:
        for name in ("log.db", "log.db-wal", "log.db-shm"):
            (self._path.parent / name).unlink(missing_ok=True)


class PostgresCluster:
    """A server whose data are replaced by a base backup, as by a fail-over to a standby that was behind."""

    def __init__(self, server: PostgresServer, url: str = "") -> None:
        self._server = server
        self._backup = server.folder / "backup"
        self.url = url or server.url("postgres")

    def save(self) -> None:
        self._server.stop()
        shutil.rmtree(self._backup, ignore_errors=True)
        subprocess.run(["cp", "-a", self._server.data, self._backup], check=True)
        self._server.start()

    def put_back(self) -> None:
        self._server.stop("QUIT")
        shutil.rmtree(self._server.data)
        subprocess.run(["cp", "-a", self._backup, self._server.data], check=True)
        self._server.start()

    def put_new(self) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")


class PostgresTables:
    """The tables of a database, restored in place by an operator: no connection is lost."""

    def __init__(self, url: str) -> None:
        self.url = url

    def save(self) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute("DROP SCHEMA IF EXISTS saved CASCADE; CREATE SCHEMA saved")
            for table in self._tables(connection, "public"):
                connection.execute(f'CREATE TABLE saved."{table}" AS TABLE public."{table}"'.encode())

    def put_back(self) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute("SET session_replication_role = replica")  # without triggers
            for table in self._tables(connection, "saved"):
                connection.execute(f'DELETE FROM public."{table}"'.encode())
                connection.execute(f'INSERT INTO public."{table}" TABLE saved."{table}"'.encode())

    @staticmethod
    def _tables(connection: psycopg.Connection[Any], schema: str) -> list[str]:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,))
        return [name for (name,) in found]


def restored_in_place(url: str) -> SqliteFile | PostgresTables:
    """Return the database at a URL, to be restored under the connections that are open."""
    return SqliteFile.at(url) if url.startswith("sqlite") else PostgresTables(url)


def restorable(engine: str, folder: Path, own_server: Callable[..., PostgresServer]) -> Restorable:
    return SqliteFile(folder) if engine == "sqlite" else PostgresCluster(own_server(18))


def _copy(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)
