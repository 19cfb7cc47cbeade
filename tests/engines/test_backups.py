"""The right ways to back up and restore: what comes back is a whole log with the read models of that moment.

Each backup is taken while an application appends and projects. The restored log must be a prefix of the log, intact,
with the same marks, and its read models must go on from their checkpoints exactly.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from decimal import Decimal
from pathlib import Path
from typing import cast

import psycopg
import pytest
from tests.accounts import Balance, Balances
from tests.postgres_servers import PostgresServer, binaries, unprivileged_user
from tests.synchronizing import PATIENCE, deposited, engine_at, opened, quick, running, write

from twofold import EventQuery, EventStore, ReadModelSynchronizer
from twofold.errors import StorageError
from twofold.log.verify import verify_log
from twofold.ports.maintenance import PortableLog

AT_LEAST = 50
"""Events before a backup begins."""


@asynccontextmanager
async def busy(url: str) -> AsyncIterator[EventStore]:
    """Append and project for as long as the block lasts, from `AT_LEAST` events on."""
    async with engine_at(url) as (engine, store):
        options = quick(lease=1.0)  # it is in the backup, and a worker on the restored database waits until it runs out
        synchronizer = ReadModelSynchronizer(store, engine.read_database, options=options)
        synchronizer.add(Balances())

        async def append() -> None:
            while True:
                await write(store, deposited("a"))
                await asyncio.sleep(0.005)  # what there is at the end is compared whole, and archived

        async with running(synchronizer):
            await write(store, opened("a"), *(deposited("a") for _ in range(AT_LEAST)))
            await synchronizer.wait(AT_LEAST, PATIENCE)
            appending = asyncio.create_task(append())
            try:
                yield store
            finally:
                appending.cancel()
                await asyncio.gather(appending, return_exceptions=True)


async def is_a_whole_backup(url: str, source: EventStore) -> None:
    """Check the restored database against the log that it was taken of."""
    async with engine_at(url) as (engine, store):
        log = cast(PortableLog, store.log)
        head = await verify_log(log)
        assert head > AT_LEAST
        assert await log.mark(head) == await source.log.mark(head)
        assert await log.mark(0) == await source.log.mark(0)
        rows = await log.read(EventQuery.all(), limit=head)
        assert rows == await source.log.read(EventQuery.all(), limit=head)
        synchronizer = ReadModelSynchronizer(store, engine.read_database)
        balances = synchronizer.add(Balances())
        async with running(synchronizer):
            await synchronizer.wait(await write(store, deposited("a")), PATIENCE)
            assert await balances.get("a") == Balance("a", "ann", Decimal(head), head)
            [status] = await synchronizer.status()
            assert (status.position, status.head, status.problems) == (head + 1, head + 1, [])


@pytest.mark.parametrize("way", ["VACUUM INTO", ".backup", "cp with all files, stopped"])
async def test_sqlite(way: str, tmp_path: Path) -> None:
    path, backup = tmp_path / "shop.db", tmp_path / "backup.db"
    async with busy(f"sqlite:///{path}") as store:
        if way == ".backup":
            await asyncio.to_thread(_back_up, path, backup)
        elif way == "VACUUM INTO":
            await asyncio.to_thread(_vacuum, path, backup)
        if backup.exists():
            await is_a_whole_backup(f"sqlite:///{backup}", store)
    if not backup.exists():
        for file in tmp_path.glob("shop.db*"):
            shutil.copy(file, tmp_path / file.name.replace("shop", "backup"))
        async with engine_at(f"sqlite:///{path}") as (_, store):
            await is_a_whole_backup(f"sqlite:///{backup}", store)


async def test_a_sqlite_file_in_use_that_was_copied_without_its_write_ahead_log_does_not_open_as_an_empty_log(
    tmp_path: Path,
) -> None:
    async with engine_at(f"sqlite:///{tmp_path}/shop.db") as (_, store):
        await write(store, opened("a"))
        shutil.copy(tmp_path / "shop.db", tmp_path / "backup.db")
    with pytest.raises(StorageError, match=r"was copied without backup\.db-wal"):
        async with engine_at(f"sqlite:///{tmp_path}/backup.db"):
            pass


async def test_pg_dump(own_server: Callable[..., PostgresServer]) -> None:
    server = own_server(18)
    server.execute("CREATE DATABASE shop")
    server.execute("CREATE DATABASE restored")
    async with busy(server.url("shop")) as store:
        dump = server.folder / "shop.dump"
        await _run(server, "pg_dump", "--format=custom", f"--file={dump}", server.url("shop"))
        await _run(
            server, "pg_restore", "--no-owner", "--exit-on-error", f"--dbname={server.url('restored')}", str(dump)
        )
        await is_a_whole_backup(server.url("restored"), store)


async def test_pg_basebackup(own_server: Callable[..., PostgresServer]) -> None:
    server = own_server(18)
    async with busy(server.url("postgres")) as store:
        copy = server.folder / "copy"
        await _run(server, "pg_basebackup", "-h", str(server.folder), "-U", "postgres", "-D", str(copy), "-c", "fast")
        restored = own_server(18, data=copy)
        await is_a_whole_backup(restored.url("postgres"), store)


async def test_recovery_to_a_point_in_time(reachable_path: Path, own_server: Callable[..., PostgresServer]) -> None:
    archive = reachable_path / "archive"
    archive.mkdir()
    if user := unprivileged_user():
        shutil.chown(archive, user)
    server = own_server(18, settings={"archive_mode": "on", "archive_command": f"cp %p {archive}/%f"})
    async with busy(server.url("postgres")) as store:
        copy = server.folder / "copy"
        await _run(server, "pg_basebackup", "-h", str(server.folder), "-U", "postgres", "-D", str(copy), "-c", "fast")
        before = await store.head()
        await asyncio.sleep(0.2)
        at_the_point = await store.head()
        server.execute("SELECT pg_create_restore_point('good')")
        await asyncio.sleep(0.2)
        later = await store.head()
        await asyncio.to_thread(server.execute, "SELECT pg_switch_wal()")
        await asyncio.to_thread(server.execute, "CHECKPOINT")
        (copy / "recovery.signal").touch()
        await _archived(server)
        settings = {
            "archive_mode": "off", "restore_command": f"cp {archive}/%f %p", "recovery_target_name": "good",
            "recovery_target_action": "promote",
        }  # fmt: skip
        restored = own_server(18, data=copy, settings=settings)
        await _promoted(restored)
        async with engine_at(restored.url("postgres")) as (engine, _):
            assert before < at_the_point <= await engine.log.head() < later
        await is_a_whole_backup(restored.url("postgres"), store)


async def _run(server: PostgresServer, program: str, *arguments: str) -> None:
    command = [str(binaries(server.version) / program), *arguments]
    user = unprivileged_user()
    done = await asyncio.to_thread(
        lambda: subprocess.run(command, user=user, cwd=server.folder, capture_output=True, text=True, check=False)
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def _archived(server: PostgresServer) -> None:
    """Wait until the WAL up to the restore point is in the archive."""
    for _ in range(100):
        await asyncio.to_thread(server.execute, "SELECT pg_switch_wal()")
        if len(list((Path(server.data) / "pg_wal" / "archive_status").glob("*.ready"))) == 0:
            return
        await asyncio.sleep(0.1)


async def _promoted(server: PostgresServer) -> None:
    for _ in range(300):
        with psycopg.connect(server.url("postgres")) as connection:
            if connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,):
                return
        await asyncio.sleep(0.1)
    raise AssertionError("it is still in recovery")


def _vacuum(path: Path, backup: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(backup),))


def _back_up(path: Path, backup: Path) -> None:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target, pages=10)
