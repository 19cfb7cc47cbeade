"""A server that is out of space, read-only, or whose disk fails: named errors, nothing by halves, and an end to it."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import randbytes
from urllib.parse import urlsplit

import psycopg
import pytest
from tests.engines.postgres.test_outcomes import lock_held, opened, positions
from tests.mounts import mounted
from tests.postgres_servers import PostgresServer
from tests.synchronizing import PATIENCE

from twofold import EventStore
from twofold.errors import (
    CorruptEventError,
    OutcomeUnknownError,
    ReadOnlyStorageError,
    StorageFullError,
    StorageUnavailableError,
)
from twofold.ports.event_log import Appended
from twofold.testing.samples import EVENT_TYPES, append_of, new_event, span, topic


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
    own_server: Callable[..., PostgresServer], new_standby: Callable[[PostgresServer], PostgresServer]
) -> None:
    """A standby knows no LISTEN, so that it is looked at again and again."""
    primary = own_server()
    async with opened(primary.url("postgres")) as log:
        await log.append(append_of(new_event("Note-1")))
    standby = new_standby(primary)
    async with opened(standby.url("postgres")) as following, opened(primary.url("postgres")) as log:
        for position in range(2, 5):
            waiting = asyncio.create_task(following.wait(position - 1, PATIENCE))
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
        async with opened(server.url("postgres"), answer_timeout=1.0, append_timeout=1.0) as log:
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


async def test_large_appends_of_one_moment_are_sent_in_several_calls(url: str) -> None:
    """One call of hundreds of megabytes takes longer than anybody waits for its outcome."""
    async with opened(url) as log:
        await asyncio.gather(*(log.append(append_of(new_event(text="x" * 9_000_000))) for _ in range(3)))
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(DISTINCT xmin::text) FROM twofold_events").fetchone() == (3,)


@pytest.mark.parametrize("setting", ["lock_timeout", "statement_timeout"])
async def test_a_lock_that_is_held_for_too_long_is_named_and_waiting_for_it_has_no_effect(
    url: str, setting: str
) -> None:
    execute(url, f"ALTER DATABASE {urlsplit(url).path[1:]} SET {setting} = '200ms'")
    async with opened(url) as log:
        append = append_of(new_event("Note-1"), expected={"Note-1": 0})
        async with lock_held(url):
            with pytest.raises(StorageUnavailableError, match="gave up waiting; see lock_timeout"):
                await log.append(append)
        assert await positions(log) == []
        assert span(await log.append(append)) == (1, 1)


async def test_a_row_that_somebody_has_changed_is_corrupt(url: str) -> None:
    async with opened(url) as log:
        await log.append(append_of(new_event("Note-1", "x"), new_event("Note-1", "x")))
        execute(url, "ALTER TABLE twofold_events DISABLE TRIGGER USER")
        execute(url, "UPDATE twofold_events SET payload = '[]' WHERE position = 2")
        store = EventStore(log, EVENT_TYPES)
        for way in (store.read(), store.read(topic("x")), store.read_stream("Note-1"), store.read(backwards=True)):
            with pytest.raises(CorruptEventError, match="event 2 does not match its checksum"):
                _ = [each async for each in way]
