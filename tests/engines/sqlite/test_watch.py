"""Looking for the commits of other processes: seldom while nothing happens, soon when something does."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from twofold.engines.sqlite import SqliteDatabase, SqliteEventLog
from twofold.engines.sqlite.watch import Watch
from twofold.testing.samples import append_of, new_event

PATIENCE = 30.0
NEVER = 3600.0
APPEND = """
import asyncio, sys
from twofold.engines.sqlite import SqliteDatabase, SqliteEventLog
from twofold.testing.samples import append_of, new_event

async def main():
    log = SqliteEventLog(SqliteDatabase(sys.argv[1]))
    await log.open()
    await log.append(append_of(new_event("Note-2")))
    await log.close()

asyncio.run(main())
"""


@asynccontextmanager
async def log_at(path: Path) -> AsyncIterator[SqliteEventLog]:
    log = SqliteEventLog(SqliteDatabase(path))
    await log.open()
    await log.append(append_of(new_event("Note-1")))
    try:
        yield log
    finally:
        await log.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of writes by inotify")
async def test_a_commit_of_another_process_is_told_and_not_found_by_chance(tmp_path: Path) -> None:
    async with log_at(tmp_path / "log.db"):
        watch = Watch(tmp_path / "log.db-wal", brisk=0.001, settling=0.05, rest=NEVER, blind=NEVER, slowing=1.5)
        watch._pause = NEVER
        waiting = asyncio.create_task(watch.wait())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", APPEND, str(tmp_path / "log.db"))
        async with asyncio.timeout(PATIENCE):
            await waiting
            await process.wait()
        watch.close()
        watch.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of writes by inotify")
async def test_the_platform_is_asked_to_tell_only_once_it_has_become_quiet(tmp_path: Path) -> None:
    """To take back what the platform was asked for takes longer than all else that a short wait does."""
    async with log_at(tmp_path / "log.db"):
        watch = Watch(tmp_path / "log.db-wal", brisk=0.001, settling=0.05, rest=0.1, blind=0.1, slowing=1.5)
        watch.note_change()
        await watch.wait()
        assert watch._descriptor is None
        async with asyncio.timeout(PATIENCE):
            while watch._descriptor is None:
                await watch.wait()
        watch.close()


async def test_while_nothing_happens_it_looks_less_and_less_often(tmp_path: Path) -> None:
    async with log_at(tmp_path / "log.db"):
        watch = Watch(tmp_path / "log.db-wal", brisk=0.002, settling=0.01, rest=0.2, blind=0.2, slowing=1.5)
        looks, until = 0, time.monotonic() + 1.0
        while time.monotonic() < until:
            await watch.wait()
            looks += 1
        watch.close()
        assert looks < 30  # 7 doublings, then 5 in a second; it would be 500 at the brisk pace


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of writes by inotify")
async def test_a_single_commit_does_not_make_it_look_briskly_for_a_while(tmp_path: Path) -> None:
    """An application at rest commits now and then itself, as its leases want to be renewed."""
    looks, waited = 0, Watch.wait

    async def counted(self: Watch) -> None:
        nonlocal looks
        await waited(self)
        looks += 1

    async with log_at(tmp_path / "log.db") as log:
        waiting = asyncio.create_task(log.wait(1_000_000, PATIENCE))
        await asyncio.sleep(0.5)  # it has come to rest
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Watch, "wait", counted)
            for version in range(4):
                await log.append(append_of(new_event(f"Note-{version + 2}")))
                await asyncio.sleep(0.25)
        waiting.cancel()
    assert looks < 4 * 15  # until it finds the commit, and a few times behind it; some 25 in each brisk while


@pytest.mark.parametrize("file", ["log.db-wal", "there-is-none"])
async def test_what_other_processes_append_is_seen_with_and_without_the_platforms_help(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watch.__init__

    def elsewhere(self: Watch, path: Path, **seconds: float) -> None:
        watched(self, tmp_path / file, **seconds)

    monkeypatch.setattr(Watch, "__init__", elsewhere)
    async with log_at(tmp_path / "log.db") as log, asyncio.timeout(PATIENCE):
        waiting = asyncio.create_task(log.wait(1, PATIENCE))
        await asyncio.sleep(0.3)  # it has come to rest
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", APPEND, str(tmp_path / "log.db"))
        assert await waiting == 2
        await process.wait()


async def test_a_change_that_becomes_visible_long_after_it_was_written_is_found(tmp_path: Path) -> None:
    """A sync that takes longer than the watch stays brisk: then time alone tells."""
    database = SqliteDatabase(tmp_path / "log.db")
    log = SqliteEventLog(database)
    await log.open()
    writer = database.connect()
    async with aclosing(database.changes(lambda: True)) as changes, asyncio.timeout(PATIENCE):
        await anext(changes)
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("CREATE TABLE late (a)")
        seen = asyncio.create_task(anext(changes))
        await asyncio.sleep(0.2)
        assert not seen.done()
        writer.execute("COMMIT")
        await seen
    writer.close()
    await log.close()
