"""Databases that a test puts back to an older state, as a lossy fail-over and an operator with a backup do."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Protocol

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

    def save(self) -> None:
        _copy(self._path, self._backup)

    def put_back(self) -> None:
        _copy(self._backup, self._path)

    def put_new(self) -> None:
        for name in ("log.db", "log.db-wal", "log.db-shm"):
            (self._path.parent / name).unlink(missing_ok=True)


class PostgresCluster:
    """A server whose data are replaced by a base backup, as by a fail-over to a standby that was behind."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._backup = server.folder / "backup"
        self.url = server.url("postgres")

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
        self._server.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")


def restorable(engine: str, folder: Path, own_server: Callable[..., PostgresServer]) -> Restorable:
    return SqliteFile(folder) if engine == "sqlite" else PostgresCluster(own_server(18))


def _copy(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)
