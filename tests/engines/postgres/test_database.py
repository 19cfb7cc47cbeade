"""What a database must be like before it is trusted, and what is said when it is not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from tests.postgres_servers import PostgresServer

from twofold.engines.engine import connect
from twofold.engines.postgres import PostgresDatabase, PostgresEventLog
from twofold.errors import (
    NewerStorageError,
    ReadOnlyStorageError,
    StorageError,
    StorageUnavailableError,
    UnsafeStorageError,
)
from twofold.ports import migrations
from twofold.ports.event_log import Appended
from twofold.testing.samples import append_of, new_event

READ_SIDE = ("twofold_projections", "twofold_checkpoints", "twofold_parked", "twofold_skipped", "twofold_workers")
OPEN_AND_APPEND = """
import asyncio, sys
from twofold.engines.postgres import PostgresDatabase, PostgresEventLog
from twofold.testing.samples import append_of, new_event

async def main():
    log = PostgresEventLog(PostgresDatabase(sys.argv[1]))
    sys.stdin.readline()
    await log.open()
    await log.append(append_of(new_event("Note-1")))
    await log.close()

asyncio.run(main())
"""


def execute(url: str, sql: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.encode())


async def opens(url: str) -> PostgresDatabase:
    database = PostgresDatabase(url)
    await database.open()
    await database.close()
    return database


def test_processes_that_start_at_one_moment_migrate_once(url: str) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", OPEN_AND_APPEND, url], stdin=subprocess.PIPE) for _ in range(4)
    ]
    for process in processes:  # each has come to where it waits for its start
        assert process.stdin
        process.stdin.write(b"go\n")
        process.stdin.close()
    assert [process.wait(60) for process in processes] == [0] * 4
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*), max(position) FROM twofold_events").fetchone() == (4, 4)
        applied = [row[0] for row in connection.execute("SELECT number FROM twofold_migrations ORDER BY number")]
    assert applied == [migration.number for migration in migrations.load("twofold.engines.postgres")]


async def test_many_openings_at_one_moment_migrate_once(url: str) -> None:
    await asyncio.gather(*(opens(url) for _ in range(8)))
    await opens(url)


async def test_a_database_of_a_newer_release_is_left_alone(url: str) -> None:
    await opens(url)
    execute(url, "INSERT INTO twofold_migrations VALUES (9999, 'from_the_future')")
    with pytest.raises(NewerStorageError, match="upgrade twofold"):
        await opens(url)


async def test_a_role_that_may_only_use_the_tables_can_open_and_append(url: str) -> None:
    await opens(url)
    execute(
        url,
        "DROP ROLE IF EXISTS clerk; CREATE ROLE clerk LOGIN; GRANT UPDATE, SELECT ON twofold_head TO clerk;"
        "GRANT SELECT ON twofold_migrations TO clerk;"
        "GRANT SELECT, INSERT ON twofold_events, twofold_event_tags, twofold_commands TO clerk",
    )
    log = PostgresEventLog(PostgresDatabase(url.replace("postgres@", "clerk@")))
    await log.open()
    assert isinstance(await log.append(append_of(new_event("Note-1"))), Appended)
    await log.close()


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
async def test_a_server_that_may_lose_data_in_a_crash_is_refused(
    own_server: Callable[..., PostgresServer], setting: str
) -> None:
    server = own_server(settings={setting: "off"})
    with pytest.raises(UnsafeStorageError, match=f"{setting} = off"):
        await opens(server.url("postgres"))
    await opens(server.url("postgres") + "&allow_unsafe_settings=true")


@pytest.mark.parametrize("version", [15, 18])
async def test_a_server_without_checksums_is_refused(own_server: Callable[..., PostgresServer], version: int) -> None:
    server = own_server(version, checksums=False)
    with pytest.raises(UnsafeStorageError, match="data_checksums = off"):
        await opens(server.url("postgres"))
    database = PostgresDatabase(server.url("postgres"), allow_unsafe_settings=True)
    await database.open()
    await database.close()


async def test_a_role_whose_commits_are_not_waited_for_is_refused(url: str) -> None:
    execute(
        url,
        "DROP ROLE IF EXISTS hasty; CREATE ROLE hasty LOGIN SUPERUSER; ALTER ROLE hasty SET synchronous_commit = off",
    )
    with pytest.raises(UnsafeStorageError, match="synchronous_commit = off"):
        await opens(url.replace("postgres@", "hasty@"))


async def test_another_default_isolation_level_does_no_harm(url: str) -> None:
    execute(
        url,
        "DROP ROLE IF EXISTS strict; CREATE ROLE strict LOGIN SUPERUSER;"
        "ALTER ROLE strict SET default_transaction_isolation = 'serializable'",
    )
    log = PostgresEventLog(PostgresDatabase(url.replace("postgres@", "strict@")))
    await log.open()
    outcomes = await asyncio.gather(*(log.append(append_of(new_event("Note-1"))) for _ in range(5)))
    assert all(isinstance(outcome, Appended) for outcome in outcomes)
    await log.close()


async def test_wrong_credentials_are_named(url: str) -> None:
    execute(
        url,
        "DROP ROLE IF EXISTS with_password; CREATE ROLE with_password LOGIN SUPERUSER PASSWORD 'right'",
    )
    await opens(url.replace("postgres@", "with_password:right@"))
    with pytest.raises(StorageUnavailableError, match="password authentication failed"):
        await opens(url.replace("postgres@", "with_password:wrong@"))


async def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(StorageUnavailableError, match="cannot be reached"):
        await opens("postgresql://postgres@127.0.0.1:1/none")


async def test_a_database_that_does_not_exist_is_named(postgres_server: Callable[[int], PostgresServer]) -> None:
    with pytest.raises(StorageUnavailableError, match='"nowhere" does not exist'):
        await opens(postgres_server(18).url("nowhere"))


async def test_a_read_only_database_can_be_read_but_not_appended_to(url: str) -> None:
    log = PostgresEventLog(PostgresDatabase(url))
    await log.open()
    await log.append(append_of(new_event("Note-1")))
    await log.close()
    execute(url, f"ALTER DATABASE {urlsplit(url).path[1:]} SET default_transaction_read_only = on")
    await log.open()
    assert await log.head() == 1
    with pytest.raises(ReadOnlyStorageError):
        await log.append(append_of(new_event("Note-1")))
    await log.close()


async def test_a_log_whose_tables_are_gone_says_so(url: str) -> None:
    log = PostgresEventLog(PostgresDatabase(url))
    await log.open()
    execute(url, "DROP TABLE twofold_events CASCADE")
    for use in (log.head(), log.append(append_of(new_event("Note-1")))):
        with pytest.raises(StorageError, match="open"):
            await use
    await log.close()


async def test_a_log_that_is_not_open_says_so(url: str) -> None:
    log = PostgresEventLog(PostgresDatabase(url))
    for use in (log.head(), log.append(append_of(new_event("Note-1")))):
        with pytest.raises(RuntimeError, match="not open"):
            await use


async def test_the_tables_of_the_read_side_are_those_of_sqlite(url: str, tmp_path: Path) -> None:
    columns = {}
    for address, sql in (
        (
            f"sqlite:///{tmp_path}/rows.db",
            'SELECT m.name, c.name, c."notnull" <> 0, c.pk FROM sqlite_master m, pragma_table_info(m.name) c'
            " WHERE m.type = 'table' ORDER BY 1, c.cid",
        ),
        (
            url,
            "SELECT c.table_name::text, c.column_name::text, is_nullable = 'NO', coalesce(k.ordinal_position, 0)"
            " FROM information_schema.columns c LEFT JOIN information_schema.key_column_usage k"
            " USING (table_name, column_name) WHERE c.table_schema = 'public' ORDER BY 1, c.ordinal_position",
        ),
    ):
        database = connect(address).read_database
        await database.open()
        rows = await database.query(sql)
        columns[address] = [(*row[:2], bool(row[2]), row[3]) for row in rows if row[0] in READ_SIDE]
        await database.close()
    assert len({row[0] for row in columns[url]}) == len(READ_SIDE)
    assert len(set(map(tuple, columns.values()))) == 1
