"""Who reads: the event loop by itself what is brief, while the disk is fast, and else a thread."""

from __future__ import annotations

import sqlite3
import threading
from types import SimpleNamespace

import pytest

from twofold.engines.sqlite import SqliteEventLog
from twofold.errors import StorageError
from twofold.options import SqliteOptions
from twofold.testing.samples import append_of, new_event

SLOW, RESPITE = SqliteOptions.slow_read, SqliteOptions.respite
LOOP, READER = threading.main_thread().name, "twofold-sqlite-reader"


def where(reader: sqlite3.Connection) -> str:
    return threading.current_thread().name.rsplit("_", 1)[0]


async def test_the_loop_reads_by_itself_what_is_brief(log: SqliteEventLog) -> None:
    assert await log._database.read(where, brief=True) == LOOP
    assert await log._database.read(where) == READER


async def test_after_a_slow_read_threads_read_for_a_while(log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("twofold.engines.sqlite.database.time", SimpleNamespace(monotonic=lambda: clock[0]))

    def slowly(reader: sqlite3.Connection) -> str:
        clock[0] += 2 * SLOW
        return where(reader)

    assert await log._database.read(slowly, brief=True) == LOOP
    clock[0] += 2 * SLOW * (RESPITE - 1)
    assert await log._database.read(where, brief=True) == READER
    clock[0] += 2 * SLOW * 2
    assert await log._database.read(where, brief=True) == LOOP
    assert await log._database.read(where, brief=True) == LOOP, "a quick read is no reason for a respite"


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
