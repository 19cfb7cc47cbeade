"""Full, read-only, locked, foreign: each is a named error, stores nothing by halves, and is over when its cause is."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.mounts import ext4, immutable, mounted, remount

from twofold import EventQuery
from twofold.engines.sqlite import SqliteDatabase, SqliteEventLog
from twofold.errors import ReadOnlyStorageError, StorageError, StorageFullError, StorageUnavailableError
from twofold.messages.stored_event import is_intact
from twofold.options import SqliteOptions
from twofold.ports.event_log import Append, Appended
from twofold.testing.samples import append_of, new_command, new_event, span

EVERYTHING = EventQuery.all()
HOLD_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN " + sys.argv[2])
print("held", flush=True)
sys.stdin.readline()
"""

CUT_WHILE_READING = """
import asyncio, os, sys
from twofold.errors import StorageError
from twofold.engines.sqlite import SqliteDatabase

def cut(reader):
    rows = reader.execute("SELECT * FROM twofold_events ORDER BY position DESC")
    next(rows)
    os.truncate(sys.argv[1], os.path.getsize(sys.argv[1]) // 4)
    rows.fetchall()

async def read():
    database = SqliteDatabase(sys.argv[1])
    await database.open()
    try:
        await database.read(cut)
    except StorageError as error:
        print(error)

asyncio.run(read())
"""


@contextmanager
def locked_by_another_process(file: Path, how: str = "IMMEDIATE") -> Iterator[None]:
    command = [sys.executable, "-c", HOLD_LOCK, str(file), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "held\n"
        try:
            yield
        finally:
            process.stdin.write("enough\n")
            process.stdin.close()


async def check_whole(log: SqliteEventLog, acknowledged: list[Append]) -> None:
    """Exactly what was acknowledged is there, in order, intact."""
    rows = await log.read(EVERYTHING, limit=1_000_000)
    assert all(map(is_intact, rows))
    assert [row.position for row in rows] == list(range(1, len(rows) + 1))
    assert [row.event_id for row in rows] == [event.event_id for each in acknowledged for event in each.events]


def bulky(n: int = 0) -> Append:
    return append_of(*(new_event(f"Note-{n}", "x", text="x" * 9_000) for _ in range(3)), command=new_command())


async def fill(log: SqliteEventLog, at_most: int = 5_000) -> tuple[list[Append], Append]:
    """Append until the disk is full; return what was acknowledged, and the append that was refused."""
    acknowledged: list[Append] = []
    for n in range(at_most):
        append = bulky(n)
        try:
            assert isinstance(await log.append(append), Appended)
        except StorageFullError:
            return acknowledged, append
        acknowledged.append(append)
    raise AssertionError("the disk was never full")


async def test_a_full_disk_refuses_whole_appends_and_the_log_goes_on_when_there_is_space(tmp_path: Path) -> None:
    with ext4(tmp_path / "disk", megabytes=16) as disk:
        log = SqliteEventLog(SqliteDatabase(disk / "events.db"))
        await log.open()
        spare = disk / "spare"
        spare.write_bytes(bytes(4 << 20))
        acknowledged, refused = await fill(log)
        assert len(acknowledged) > 50
        with pytest.raises(StorageFullError, match="free some space"):
            await log.append(refused)
        await check_whole(log, acknowledged)
        spare.unlink()
        outcome = await log.append(refused)
        assert isinstance(outcome, Appended)
        assert not outcome.repeated
        acknowledged.append(refused)
        await check_whole(log, acknowledged)
        await log.close()
        await log.open()
        await check_whole(log, acknowledged)
        await log.close()


async def test_a_disk_that_is_full_from_the_beginning_refuses_to_open(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=64k", "tmpfs") as disk:
        log = SqliteEventLog(SqliteDatabase(disk / "events.db"))
        spare = disk / "spare"
        spare.write_bytes(bytes(56 << 10))
        with pytest.raises(StorageFullError, match="free some space"):
            await log.open()
        spare.unlink()
        remount(disk, "size=8m")
        await log.open()
        assert span(await log.append(append_of(new_event("Note-1")))) == (1, 1)
        await log.close()


async def test_a_log_that_may_not_grow_refuses_some_of_a_group_and_stores_the_others(log: SqliteEventLog) -> None:
    """The same without a disk of its own: SQLite reports its own limit of pages as a full disk."""
    database = log._database
    pages = await database.write(lambda tx: tx.connection.execute("PRAGMA page_count").fetchone()[0])
    await database.write(lambda tx: tx.connection.execute(f"PRAGMA max_page_count = {pages + 60}").fetchone())
    appends = [bulky(n) for n in range(20)]
    outcomes = await asyncio.gather(*map(log.append, appends), return_exceptions=True)
    stored = [append for append, each in zip(appends, outcomes, strict=True) if isinstance(each, Appended)]
    assert 0 < len(stored) < len(appends)
    assert {type(each) for each in outcomes} == {Appended, StorageFullError}
    await check_whole(log, stored)
    await database.write(lambda tx: tx.connection.execute("PRAGMA max_page_count = 4294967294").fetchone())
    again = await asyncio.gather(*map(log.append, appends))
    assert [each.repeated for each in again if isinstance(each, Appended)] == [each in stored for each in appends]


async def test_a_read_only_disk_refuses_to_open_and_tells_what_to_do(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=8m", "tmpfs") as disk:
        log = SqliteEventLog(SqliteDatabase(disk / "events.db"))
        await log.open()
        await log.append(append_of(new_event("Note-1")))
        await log.close()
        remount(disk, "ro")
        for path in (disk / "events.db", disk / "new.db", disk / "folder" / "new.db"):
            with pytest.raises(ReadOnlyStorageError, match="make both writable"):
                await SqliteEventLog(SqliteDatabase(path)).open()
        remount(disk, "rw")
        await log.open()
        assert span(await log.append(append_of(new_event("Note-1")))) == (2, 2)
        await log.close()


async def test_a_read_only_file_can_be_read_and_refuses_appends(file: Path, log: SqliteEventLog) -> None:
    await log.append(append_of(new_event("Note-1")))
    await log.close()
    with immutable(file):
        await log.open()
        assert await log.head() == 1
        with pytest.raises(ReadOnlyStorageError, match="make both writable"):
            await log.append(append_of(new_event("Note-1")))
        assert await log.head() == 1
        await log.close()
    await log.open()
    assert span(await log.append(append_of(new_event("Note-1")))) == (2, 2)


async def test_a_path_that_is_a_folder_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailableError, match="is a folder; name a file in it"):
        await SqliteEventLog(SqliteDatabase(tmp_path)).open()


async def test_a_path_below_a_file_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageUnavailableError, match="cannot create or open the folder"):
        await SqliteEventLog(SqliteDatabase(tmp_path / "file" / "events.db")).open()


async def test_appends_wait_for_a_lock_until_the_timeout_and_work_when_it_is_released(file: Path) -> None:
    log = SqliteEventLog(SqliteDatabase(file, options=SqliteOptions(lock_timeout=0.2)))
    await log.open()
    await log.append(append_of(new_event("Note-1")))
    with locked_by_another_process(file):
        appends = [append_of(new_event("Note-1")) for _ in range(3)]
        outcomes = await asyncio.gather(*map(log.append, appends), return_exceptions=True)
        assert {type(each) for each in outcomes} == {StorageUnavailableError}
        assert "another process has held the write lock for too long" in str(outcomes[0])
        assert len(await log.read(EVERYTHING, limit=10)) == 1, "reading goes on"
    assert [span(await log.append(each)) for each in appends] == [(2, 2), (3, 3), (4, 4)]
    await log.close()


async def test_a_lock_that_is_released_in_time_is_not_noticed(file: Path, log: SqliteEventLog) -> None:
    with locked_by_another_process(file):
        waiting = asyncio.create_task(log.append(append_of(new_event("Note-1"))))
        await asyncio.wait({waiting}, timeout=0.1)
        assert not waiting.done()
    assert span(await waiting) == (1, 1)


@pytest.mark.parametrize("how", ["IMMEDIATE", "EXCLUSIVE"])
async def test_a_log_that_exists_opens_while_another_process_writes(file: Path, log: SqliteEventLog, how: str) -> None:
    await log.append(append_of(new_event("Note-1")))
    with locked_by_another_process(file, how):
        other = SqliteEventLog(SqliteDatabase(file, options=SqliteOptions(lock_timeout=0.2)))
        await other.open()
        assert await other.head() == 1
        await other.close()


async def test_a_new_file_that_is_locked_for_too_long_refuses_to_open_and_opens_later(file: Path) -> None:
    sqlite3.connect(file).close()
    log = SqliteEventLog(SqliteDatabase(file, options=SqliteOptions(lock_timeout=0.2)))
    with locked_by_another_process(file, "EXCLUSIVE"), pytest.raises(StorageUnavailableError, match="another process"):
        await log.open()
    await log.open()
    assert span(await log.append(append_of(new_event("Note-1")))) == (1, 1)
    await log.close()


@pytest.mark.parametrize("content", [b"id,name\n1,ann\n" * 100, b"\0" * 4096, b"SQLite format 3\0" + b"\xff" * 8000])
async def test_a_file_that_is_no_database_is_a_named_error_and_is_left_as_it_is(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(StorageError, match=r"is not an intact SQLite database .*restore it from a backup"):
        await SqliteEventLog(SqliteDatabase(file)).open()
    assert file.read_bytes() == content
    assert [each.name for each in file.parent.iterdir()] == [file.name]


async def test_pages_that_cannot_be_read_are_a_named_error_and_not_the_end_of_the_process(
    file: Path, log: SqliteEventLog
) -> None:
    """Were the file mapped into memory, a disk that fails would be a signal that nobody can handle."""
    for n in range(100):
        await log.append(bulky(n))
    await log.close()
    command = [sys.executable, "-c", CUT_WHILE_READING, str(file)]
    reader = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert reader.returncode == 0, reader
    assert "restore it from a backup" in reader.stdout


async def test_a_log_in_a_file_with_other_tables_leaves_them_alone(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE customers (name)")
        connection.execute("INSERT INTO customers VALUES ('ann')")
    log = SqliteEventLog(SqliteDatabase(file))
    await log.open()
    await log.append(append_of(new_event("Note-1")))
    await log.close()
    assert connection.execute("SELECT name FROM customers").fetchall() == [("ann",)]
    connection.close()


async def test_using_a_log_that_is_not_open_says_so(file: Path) -> None:
    log = SqliteEventLog(SqliteDatabase(file))
    for call in (log.head(), log.append(append_of(new_event())), log.read(EVERYTHING, limit=1)):
        with pytest.raises(RuntimeError, match="is not open"):
            await call


async def test_new_files_can_be_read_by_their_own_user_only(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    log = SqliteEventLog(SqliteDatabase(folder / "events.db"))
    await log.open()
    await log.append(append_of(new_event("Note-1")))
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == {"events.db": 0o600, "events.db-wal": 0o600, "events.db-shm": 0o600}
    await log.close()
