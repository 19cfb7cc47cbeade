"""A server that is out of space, read-only, or whose disk fails: named errors, nothing by halves, and an end to it."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import randbytes

import psycopg
import pytest
from tests.mounts import mounted
from tests.postgres.test_outcomes import opened, positions
from tests.postgres_servers import PostgresServer

from twofold.errors import OutcomeUnknownError, ReadOnlyStorageError, StorageFullError, StorageUnavailableError
from twofold.event_log import Appended
from twofold.testing.samples import append_of, new_event, span


def execute(url: str, sql: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.encode())


def copy_with_owner(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", source, target], check=True)


async def test_a_standby_can_be_read_and_refuses_appends_until_it_is_promoted(
    own_server: Callable[..., PostgresServer],
) -> None:
    server = own_server()
    async with opened(server.url("postgres")) as log:
        await log.append(append_of(new_event("Note-1")))
    server.stop()
    (server.data / "standby.signal").touch()
    server.start()
    async with opened(server.url("postgres")) as log:
        assert await positions(log) == [1]
        waiting = asyncio.create_task(log.wait(1, 30))
        with pytest.raises(ReadOnlyStorageError, match="a standby or by its settings"):
            await log.append(append_of(new_event("Note-1")))
        await asyncio.to_thread(execute, server.url("postgres"), "SELECT pg_promote()")
        async with opened(server.url("postgres")) as other:
            assert span(await other.append(append_of(new_event("Note-1")))) == (2, 2)
        assert await waiting == 2
        assert span(await log.append(append_of(new_event("Note-1")))) == (3, 3)


async def test_a_standby_is_followed_while_its_primary_is_appended_to(
    own_server: Callable[..., PostgresServer],
) -> None:
    """A standby knows no LISTEN, so that it is looked at again and again."""
    primary = own_server()
    async with opened(primary.url("postgres")) as log:
        await log.append(append_of(new_event("Note-1")))
    primary.stop()
    copy = primary.folder / "copy"
    copy_with_owner(primary.data, copy)
    (copy / "standby.signal").touch()
    primary.start()
    standby = own_server(data=copy, settings={"primary_conninfo": f"host={primary.folder} user=postgres"})
    async with opened(standby.url("postgres")) as following, opened(primary.url("postgres")) as log:
        for position in range(2, 5):
            waiting = asyncio.create_task(following.wait(position - 1, 10))
            await log.append(append_of(new_event("Note-1")))
            assert await waiting == position
        assert await positions(following) == [1, 2, 3, 4]


async def test_a_server_that_has_no_space_for_its_write_ahead_log_loses_nothing_and_goes_on(
    own_server: Callable[..., PostgresServer], reachable_path: Path
) -> None:
    """It refuses the append, or crashes over it and cannot start: then nobody can know."""
    server = own_server(settings={"max_wal_size": "32MB", "min_wal_size": "32MB"})
    with mounted(reachable_path / "disk", "-t", "tmpfs", "-o", "size=64m", "tmpfs") as disk:
        server.stop()
        copy_with_owner(server.data / "pg_wal", disk / "pg_wal")
        shutil.rmtree(server.data / "pg_wal")
        (server.data / "pg_wal").symlink_to(disk / "pg_wal")
        spare = disk / "spare"
        spare.write_bytes(bytes(shutil.disk_usage(disk).free - (8 << 20)))
        server.start()
        async with opened(server.url("postgres"), timeout=0.5, deadline=1.0) as log:
            stored = 0
            with pytest.raises((StorageFullError, OutcomeUnknownError, StorageUnavailableError)):
                while stored < 5_000:
                    doubtful = append_of(*(new_event("Note-1", text=randbytes(10_000).hex()) for _ in range(50)))
                    assert isinstance(await log.append(doubtful), Appended)
                    stored += len(doubtful.events)
            spare.unlink()
            await asyncio.to_thread(server.restart, "QUIT")
            assert isinstance(await log.append(doubtful), Appended)
            assert await positions(log) == list(range(1, stored + len(doubtful.events) + 1))
        server.stop()
