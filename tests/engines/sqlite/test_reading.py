"""Who reads: the event loop by itself what is brief, while the disk is fast, and else a thread."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import re
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

import twofold
from twofold.engines.sqlite import SqliteDatabase, SqliteEventLog, SqliteReadDatabase
from twofold.engines.sqlite.threads import wait_counter
from twofold.errors import StorageError
from twofold.messages.event_query import EventQuery, QueryItem
from twofold.messages.mark import START
from twofold.options import SqliteOptions
from twofold.ports.read_database import Lookup, Source
from twofold.ports.table import Column, Kind, Table
from twofold.testing.samples import append_of, new_event

SLOW, RESPITE, TURN = SqliteOptions.slow_read, SqliteOptions.respite, SqliteOptions.loop_turn
LOOP, READER = threading.main_thread().name, "twofold-sqlite-reader"


def where(reader: sqlite3.Connection) -> str:
    return threading.current_thread().name.rsplit("_", 1)[0]


async def test_the_loop_reads_by_itself_what_is_brief(log: SqliteEventLog) -> None:
    assert await log._database.read(where, brief=True) == LOOP
    assert await log._database.read(where) == READER


async def test_the_loop_reads_once_also_what_is_not_there(log: SqliteEventLog) -> None:
    readers: list[str] = []

    def find_nothing(reader: sqlite3.Connection) -> None:
        readers.append(where(reader))

    await log._database.read(find_nothing, brief=True)
    assert readers == [LOOP]


@contextmanager
def read_in_the_loop(database: SqliteDatabase) -> Iterator[list[str]]:
    """Note the statements that the loop runs by itself."""
    statements: list[str] = []
    database._reader_here.set_trace_callback(statements.append)
    try:
        yield statements
    finally:
        database._reader_here.set_trace_callback(None)


@pytest.mark.parametrize(
    ("query", "is_brief"),
    [
        (EventQuery.all(), True),
        (EventQuery((QueryItem(("Noted",)),)), True),
        (EventQuery((QueryItem((), ("a:1",)),)), True),
        (EventQuery((QueryItem(("Noted",), ("a:1",)),)), False),
        (EventQuery((QueryItem(("Noted", "Moved")),)), False),
        (EventQuery((QueryItem(("Noted",)), QueryItem(("Moved",)))), False),
    ],
)
async def test_the_loop_scans_by_itself_what_one_walk_along_an_index_finds(
    query: EventQuery, is_brief: bool, log: SqliteEventLog
) -> None:
    await log.append(append_of(new_event("Note-1")))
    with read_in_the_loop(log._database) as statements:
        await log.scan(query, after=START, limit=SqliteOptions.brief_read)
        assert bool(statements) == is_brief
    with read_in_the_loop(log._database) as statements:
        await log.scan(query, after=START, limit=SqliteOptions.brief_read + 1)
        assert not statements


async def test_the_loop_looks_a_few_rows_up_by_itself(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "rows.db")
    rows, few = SqliteReadDatabase(database), SqliteOptions.brief_lookup
    table = Table("notes", (Column("id", Kind.TEXT, nullable=False),), ("id",), (), ())
    await rows.open()
    async with rows.transaction() as transaction:
        await transaction.create(table)
    keys = [(str(n),) for n in range(few + 1)]
    for wanted, is_brief in ((keys[:few], True), (keys, False)):
        with read_in_the_loop(database) as statements:
            await rows.load(table, wanted)
            await rows.read(table, Lookup(tuple(wanted)), Source("notes", 1, ""))
            assert bool(statements) == is_brief
    await rows.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time that reads take it to be, to be set."""
    clock = [100.0]
    monkeypatch.setattr("twofold.engines.sqlite.database.time", SimpleNamespace(monotonic=lambda: clock[0]))
    return clock


async def test_after_a_slow_read_threads_read_for_a_while(
    log: SqliteEventLog, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = itertools.count()
    monkeypatch.setattr(log._database, "_times_waited", lambda: next(waits))

    def slowly(reader: sqlite3.Connection) -> str:
        clock[0] += 2 * SLOW
        return where(reader)

    assert await log._database.read(slowly, brief=True) == LOOP
    clock[0] += 2 * SLOW * (RESPITE - 1)
    assert await log._database.read(where, brief=True) == READER
    clock[0] += 2 * SLOW * 2
    assert await log._database.read(where, brief=True) == LOOP
    assert await log._database.read(where, brief=True) == LOOP, "a quick read is no reason for a respite"


async def test_one_task_after_the_other_reads_at_once_however_long_they_take_together(
    log: SqliteEventLog, clock: list[float]
) -> None:
    def take_a_whole_turn(reader: sqlite3.Connection) -> str:
        clock[0] += TURN
        return where(reader)

    async def request() -> str | None:
        return log._database.read_at_once(take_a_whole_turn)

    assert await asyncio.gather(*(request() for _ in range(20))) == [LOOP] * 20


async def test_a_task_that_reads_again_and_again_gives_the_loop_back_after_its_turn(
    log: SqliteEventLog, clock: list[float]
) -> None:
    steps: list[str] = []

    def take_half_a_turn(reader: sqlite3.Connection) -> str:
        steps.append("read")
        clock[0] += TURN / 2
        return where(reader)

    async def read_on() -> None:
        asyncio.get_running_loop().call_soon(steps.append, "others")
        while len(steps) < 4:
            await log._database.read(take_half_a_turn, brief=True)

    await asyncio.create_task(read_on())
    assert steps == ["read", "read", "others", "read"]


async def test_a_task_whose_turn_is_over_reads_nothing_at_once(log: SqliteEventLog, clock: list[float]) -> None:
    assert log._database.read_at_once(where) == LOOP
    clock[0] += TURN
    assert log._database.read_at_once(where) is None
    assert await log._database.read(where, brief=True) == LOOP
    assert log._database.read_at_once(where) == LOOP, "another turn has begun"


@pytest.mark.skipif(math.isnan(wait_counter(Path.cwd())()), reason="this platform does not count for each thread")
async def test_a_read_that_was_only_kept_from_the_processor_is_no_slow_one(
    log: SqliteEventLog, clock: list[float]
) -> None:
    def preempted(reader: sqlite3.Connection) -> str:
        clock[0] += 2 * SLOW
        return where(reader)

    assert await log._database.read(preempted, brief=True) == LOOP
    assert await log._database.read(where, brief=True) == LOOP


@pytest.mark.skipif(sys.platform != "linux", reason="other platforms do not count blocks for each thread")
def test_a_read_that_the_disk_has_to_answer_is_counted(reachable_path: Path) -> None:
    on_disk = reachable_path  # `tmp_path` may be in memory
    if not os.major(on_disk.stat().st_dev):
        pytest.skip("these files are on no block device")
    file, times_waited = on_disk / "blocks", wait_counter(on_disk)
    file.write_bytes(os.urandom(1 << 20))
    with file.open("rb", buffering=0) as opened:
        os.fsync(opened.fileno())
        assert len(opened.read()) == 1 << 20
        before = times_waited()
        opened.seek(0)
        time.sleep(0.001)
        assert (len(opened.read()), times_waited()) == (1 << 20, before), "it was in memory"
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        opened.seek(0)
        assert len(opened.read()) == 1 << 20
        assert times_waited() > before


async def test_what_fails_in_the_loop_is_done_again_in_a_thread_which_tells_the_cause(log: SqliteEventLog) -> None:
    places: list[str] = []

    def fail(reader: sqlite3.Connection) -> None:
        places.append(where(reader))
        reader.execute("SELECT * FROM nowhere")

    with pytest.raises(StorageError, match="nowhere"):
        await log._database.read(fail, brief=True)
    assert places == [LOOP, READER]


async def test_a_read_in_the_loop_sees_every_append_that_was_acknowledged(log: SqliteEventLog) -> None:
    for version in range(20):
        await log.append(append_of(new_event("Note-1")))
        assert await log.head() == version + 1
        assert len(await log.read_stream("Note-1", limit=100)) == version + 1


def test_no_statement_numbers_its_placeholders() -> None:
    """Python 3.12 warns of each such statement that gets its values in a sequence."""
    folder = Path(twofold.__file__).parent / "engines/sqlite"
    sources = [each for each in folder.rglob("*") if each.suffix in (".sql", ".py")]
    assert len(sources) > 20
    assert [each.name for each in sources if re.search(r"\?\d", each.read_text("utf-8"))] == []
