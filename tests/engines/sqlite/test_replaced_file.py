"""A file that is deleted, replaced or put back under a running process: noticed before anything else is acknowledged.

What the process remembers of a log (its end, the versions of streams) is believed only for the state of the database
in which it was learnt.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.engines.sqlite.test_writer import writer_of
from tests.synchronizing import PATIENCE

from twofold import EventQuery, open_event_store
from twofold.engines.sqlite import SqliteDatabase, SqliteEventLog
from twofold.errors import OutcomeUnknownError, StorageError, StorageReplacedError
from twofold.ports.event_log import Appended, Rejected
from twofold.testing.samples import Noted, append_of, new_event

EVERYTHING = EventQuery.all()
IN_LOOP, IN_THREAD = -1e300, 1e300
PATHS = pytest.mark.parametrize("average", [IN_LOOP, IN_THREAD], ids=["in the loop", "in the thread"])


def delete(file: Path) -> None:
    for path in (file, Path(f"{file}-wal"), Path(f"{file}-shm")):
        path.unlink(missing_ok=True)


def back_up(file: Path, target: Path) -> Path:
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    return target


def put_back(backup: Path, file: Path) -> None:
    """Do what `.restore` of the sqlite3 shell does: into the file, with the file's own locks."""
    with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(file)) as target:
        source.backup(target)


def replace(backup: Path, file: Path) -> None:
    copy = shutil.copy(backup, f"{file}.new")
    delete(file)
    Path(copy).rename(file)


async def fill(log: SqliteEventLog, count: int) -> None:
    for _ in range(count):
        assert isinstance(await log.append(append_of(new_event("Note-1"))), Appended)


@PATHS
async def test_after_the_file_is_deleted_nothing_is_acknowledged(
    file: Path, log: SqliteEventLog, average: float
) -> None:
    await fill(log, 3)
    writer_of(log)._average = average
    delete(file)
    with pytest.raises(OutcomeUnknownError, match="was deleted or replaced"):
        await log.append(append_of(new_event("Note-1")))
    for _ in range(2):
        with pytest.raises(StorageReplacedError, match="was deleted or replaced"):
            await log.append(append_of(new_event("Note-1")))


@PATHS
async def test_after_the_file_is_replaced_nothing_is_acknowledged_that_the_new_one_does_not_hold(
    file: Path, log: SqliteEventLog, tmp_path: Path, average: float
) -> None:
    await fill(log, 3)
    backup = back_up(file, tmp_path / "backup.db")
    await fill(log, 3)
    writer_of(log)._average = average
    replace(backup, file)
    outcomes = await asyncio.gather(
        *(log.append(append_of(new_event("Note-1"))) for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(outcome, OutcomeUnknownError | StorageReplacedError) for outcome in outcomes)
    async with open_event_store(f"sqlite:///{file}") as store:
        assert await store.head() == 3


async def test_reading_and_waiting_tell_that_the_file_was_replaced(
    file: Path, log: SqliteEventLog, tmp_path: Path
) -> None:
    await fill(log, 3)
    replace(back_up(file, tmp_path / "backup.db"), file)
    await asyncio.sleep(log._database.options.file_check)
    for asking in (log.head(), log.read(EVERYTHING, limit=9), log.read_stream("Note-1", limit=9), log.wait(3, 0.2)):
        with pytest.raises(StorageReplacedError, match="was deleted or replaced"):
            await asking


async def test_a_subscription_tells_that_the_file_was_replaced(file: Path, tmp_path: Path) -> None:
    async with open_event_store(f"sqlite:///{file}") as store:
        following = asyncio.create_task(anext(store.subscribe()))
        await asyncio.sleep(0.1)
        delete(file)
        with pytest.raises(StorageReplacedError, match="was deleted or replaced"):
            await asyncio.wait_for(following, PATIENCE)


async def test_a_transaction_of_the_users_own_tells_that_the_file_was_deleted(file: Path) -> None:
    async with open_event_store(f"sqlite:///{file}") as store:
        await store.append([Noted(text="a")])  # what the log records of a class of events is written with the first one
        with pytest.raises(OutcomeUnknownError, match="was deleted or replaced"):
            async with store.transaction() as tx:
                tx.append([Noted(text="a")])
                delete(file)
        with pytest.raises(StorageReplacedError, match="was deleted or replaced"):
            async with store.transaction() as tx:
                tx.append([Noted(text="a")])
        assert not file.exists(), "a transaction must not make a new file in its place"


async def test_a_file_that_comes_back_is_used_again(file: Path, log: SqliteEventLog, tmp_path: Path) -> None:
    await fill(log, 3)
    away = file.rename(tmp_path / "away.db")
    for _ in range(2):
        with pytest.raises((OutcomeUnknownError, StorageReplacedError)):
            await log.append(append_of(new_event("Note-1")))
    away.rename(file)
    assert isinstance(await log.append(append_of(new_event("Note-1"))), Appended)


@PATHS
async def test_versions_of_a_state_that_was_put_back_are_forgotten_though_the_log_ends_where_it_did(
    file: Path, log: SqliteEventLog, tmp_path: Path, average: float
) -> None:
    writer_of(log)._average = average
    await fill(log, 3)
    backup = back_up(file, tmp_path / "backup.db")
    await fill(log, 2)
    put_back(backup, file)
    other = SqliteEventLog(SqliteDatabase(file))
    await other.open()
    for _ in range(2):  # the log is as long as before, and the stream is not
        assert isinstance(await other.append(append_of(new_event("Note-2"))), Appended)
    await other.close()
    outcome = await log.append(append_of(new_event("Note-1"), expected={"Note-1": 5}))
    assert isinstance(outcome, Rejected)
    assert outcome.version == 3
    await fill(log, 1)
    versions = [row.version for row in await log.read_stream("Note-1", limit=9)]
    assert versions == [1, 2, 3, 4]


async def test_a_follower_sees_what_comes_after_a_state_that_was_put_back(
    file: Path, log: SqliteEventLog, tmp_path: Path
) -> None:
    await fill(log, 3)
    backup = back_up(file, tmp_path / "backup.db")
    await fill(log, 97)
    assert await log.wait(99, PATIENCE) == 100
    put_back(backup, file)
    assert await log.head() == 3
    waiting = asyncio.create_task(log.wait(3, PATIENCE))
    await asyncio.sleep(0.05)
    assert not waiting.done(), "the log ends at 3, whatever this process has seen before"
    await fill(log, 1)
    assert await asyncio.wait_for(waiting, PATIENCE) == 4


async def test_a_process_that_waits_beyond_the_end_learns_that_the_log_ends_earlier(
    file: Path, log: SqliteEventLog, tmp_path: Path
) -> None:
    await fill(log, 3)
    backup = back_up(file, tmp_path / "backup.db")
    await fill(log, 7)
    waiting = asyncio.create_task(log.wait(10, PATIENCE))
    await asyncio.sleep(0.05)
    put_back(backup, file)
    assert await waiting == 3


async def test_a_copy_of_a_file_in_use_without_its_write_ahead_log_does_not_open_as_an_empty_log(
    file: Path, log: SqliteEventLog, tmp_path: Path
) -> None:
    await fill(log, 3)
    copy = Path(shutil.copy(file, tmp_path / "copy.db"))
    with pytest.raises(StorageError, match=r"copied without copy.db-wal"):
        await SqliteEventLog(SqliteDatabase(copy)).open()
    shutil.copy(f"{file}-wal", f"{copy}-wal")
    copied = SqliteEventLog(SqliteDatabase(copy))
    await copied.open()
    assert await copied.head() == 3
    await copied.close()


async def test_a_new_file_whose_making_failed_half_way_is_no_torn_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    new = SqliteEventLog(SqliteDatabase(tmp_path / "new.db"))
    with monkeypatch.context() as failing:
        failing.setattr("twofold.engines.sqlite.database.migrate_file", fail)
        for _ in range(2):
            with pytest.raises(StorageError, match="disk I/O error"):
                await new.open()
    with pytest.raises(StorageError, match=r"copied without new.db-wal"):
        await SqliteEventLog(SqliteDatabase(tmp_path / "new.db")).open()  # which did not see it empty
    await new.open()
    assert await new.head() == 0
    await new.close()


async def test_a_backup_of_a_file_in_use_opens(file: Path, log: SqliteEventLog, tmp_path: Path) -> None:
    await fill(log, 3)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("VACUUM INTO ?", (f"{tmp_path}/vacuumed.db",))
    for path in (back_up(file, tmp_path / "backup.db"), tmp_path / "vacuumed.db"):
        copied = SqliteEventLog(SqliteDatabase(path))
        await copied.open()
        assert await copied.head() == 3
        await copied.close()


async def test_a_file_whose_first_opening_was_cut_short_opens(tmp_path: Path) -> None:
    file = tmp_path / "cut.db"
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    assert Path(f"{file}-wal").exists()
    connection.execute("ROLLBACK")
    log = SqliteEventLog(SqliteDatabase(file))
    await log.open()
    await log.close()
    connection.close()
