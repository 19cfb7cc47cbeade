"""Bringing the schema of a SQLite file up to date, and refusing a file whose schema is not."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from twofold.errors import StorageError, StorageUnavailableError
from twofold.ports import migrations

_PACKAGE = "twofold.engines.sqlite"


def migrate_file(connection: sqlite3.Connection) -> None:
    """Apply what is missing in one transaction, under the write lock, so that of several processes one does it.

    Raises:
        NewerStorageError: a newer release has migrated the file.
    """
    known = migrations.load(_PACKAGE)
    if _applied(connection) == len(known):
        return  # no lock is needed to find that out
    connection.execute("BEGIN IMMEDIATE")
    try:
        for migration in migrations.pending(known, _applied(connection)):
            for statement in _statements(migration.sql):
                connection.execute(statement)
            connection.execute("INSERT INTO twofold_migrations VALUES (?, ?)", migration[:2])
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def refuse_outdated(path: Path) -> None:
    """Look at a file without changing anything.

    Raises:
        StorageUnavailableError: there is no such file.
        StorageError: its schema is not up to date.
        NewerStorageError: a newer release has migrated the file.
    """
    if not path.is_file():
        raise StorageUnavailableError(f"{path}: there is no such file")
    known = migrations.load(_PACKAGE)
    with closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as connection:
        tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'twofold_migrations'").fetchone()
        applied = _applied(connection) if tables[0] else 0
    if migrations.pending(known, applied):
        raise StorageError(f"{path}: is at migration {applied} of {len(known)}; run `twofold migrate` on it first")


def _applied(connection: sqlite3.Connection) -> int:
    connection.execute("CREATE TABLE IF NOT EXISTS twofold_migrations (number INTEGER PRIMARY KEY, name TEXT) STRICT")
    return int(connection.execute("SELECT count(*) FROM twofold_migrations").fetchone()[0])


def _statements(script: str) -> Iterator[str]:
    """Split a script; `executescript` would commit the transaction that it runs in."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
