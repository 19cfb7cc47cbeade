"""Twofold's tables in a PostgreSQL database: brought up to date by one of several processes, and found again."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple
from uuid import UUID

from twofold.engines.postgres.connection import Connection
from twofold.errors import StorageError
from twofold.ports import migrations

LOCK = 0x74776F666F6C64  # "twofold"
LOOKS = 0.1
"""Seconds between two looks whether another process has brought the schema up to date."""
_PACKAGE = "twofold.engines.postgres"
_FIND = """
    SELECT nspname, log_id FROM twofold_head, pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
    WHERE c.oid = 'twofold_head'::regclass AND id = 1"""


class LogLocation(NamedTuple):
    """Where Twofold's tables are, and which log is in them."""

    schema: str
    log_id: UUID


async def migrate(connection: Connection) -> None:
    """Apply what is missing in one transaction, under a lock, so that of several processes one does it.

    Raises:
        NewerStorageError: the database is ahead of this code.
        psycopg.Error: the server did not answer, or this role may not make tables.
    """
    known = migrations.load(_PACKAGE)
    if await _applied(connection) == len(known):
        return  # a role that owns nothing needs no more
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS twofold_migrations"
            " (number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        for migration in migrations.pending(known, await _applied(connection)):
            await connection.execute(migration.sql.encode())
            await connection.execute("INSERT INTO twofold_migrations VALUES (%s, %s)", migration[:2])


async def refuse_outdated(connection: Connection, patience: float) -> None:
    """Wait until another process has brought the schema up to date, and change nothing.

    Raises:
        StorageError: it has not done so in time.
        NewerStorageError: the database is ahead of this code.
        psycopg.Error: the server did not answer.
    """
    known, deadline = migrations.load(_PACKAGE), time.monotonic() + patience
    while migrations.pending(known, applied := await _applied(connection)):
        if time.monotonic() >= deadline:
            raise StorageError(
                f"the database is at migration {applied} of {len(known)}; run `twofold migrate` on it first"
            )
        await asyncio.sleep(LOOKS)


async def find(connection: Connection) -> LogLocation:
    """Return where the session's `search_path` finds Twofold's tables.

    Raises:
        StorageError: there are none.
        psycopg.Error: the server did not answer.
    """
    row = await (await connection.execute(_FIND)).fetchone()
    if row is None:
        raise StorageError("twofold_head has lost its row; restore the database from a backup")
    return LogLocation(*row)


async def _applied(connection: Connection) -> int:
    found = await (await connection.execute("SELECT to_regclass('twofold_migrations')")).fetchone()
    if found == (None,):
        return 0
    row = await (await connection.execute("SELECT coalesce(max(number), 0) FROM twofold_migrations")).fetchone()
    assert row is not None  # noqa: S101
    return int(row[0])
