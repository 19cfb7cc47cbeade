"""Who commits: the event loop by itself while the disk is fast and nobody is in the way, and else the thread."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.engines.sqlite.test_failing_storage import locked_by_another_process
from tests.synchronizing import PATIENCE

from twofold.engines.sqlite import SqliteDatabase, SqliteEventLog
from twofold.engines.sqlite.log.appending import append_to
from twofold.engines.sqlite.transaction import Transaction
from twofold.engines.sqlite.writer import Writer
from twofold.errors import DuplicateEventIdError, StorageUnavailableError
from twofold.messages.event_query import EventQuery
from twofold.options import SqliteOptions
from twofold.ports.event_log import Appended, Rejected
from twofold.testing.samples import append_of, new_event, repeated_span, span

EVERYTHING = EventQuery.all()


def where(transaction: Transaction) -> str:
    return threading.current_thread().name


async def turns_of_the_loop(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def writer_of(log: SqliteEventLog) -> Writer:
    writer = log._database._writer
    assert writer is not None
    return writer


@pytest_asyncio.fixture
async def fast(log: SqliteEventLog) -> AsyncIterator[SqliteEventLog]:
    """A log on a disk that has been fast, and stays so whatever this machine is doing."""
    writer_of(log)._average = -1e300
    yield log


async def test_the_loop_commits_a_brief_job_by_itself_while_the_disk_is_fast(fast: SqliteEventLog) -> None:
    assert await fast._database.write(where, brief=True) == threading.main_thread().name
    assert await fast._database.write(where) == "twofold-sqlite-writer"


async def test_on_a_slow_disk_and_for_many_jobs_the_thread_commits(log: SqliteEventLog) -> None:
    writer_of(log)._average = SqliteOptions.fast_commit
    assert await log._database.write(where, brief=True) == "twofold-sqlite-writer"
    writer_of(log)._average = -1e300
    crowd = await asyncio.gather(*(log._database.write(where, brief=True) for _ in range(SqliteOptions.loop_group + 1)))
    assert set(crowd) == {"twofold-sqlite-writer"}


async def test_another_process_that_has_the_lock_does_not_block_the_loop(file: Path, fast: SqliteEventLog) -> None:
    with locked_by_another_process(file):
        waiting = asyncio.create_task(fast.append(append_of(new_event("Note-1"))))
        await asyncio.wait({waiting}, timeout=0.1)
        assert not waiting.done(), "a loop that had waited would have given up after ten seconds"
    assert span(await waiting) == (1, 1)


async def test_those_who_were_answered_do_not_wait_for_a_lock_that_others_need(file: Path, log: SqliteEventLog) -> None:
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    begun: list[str] = []

    def take_the_lock_before_the_second_group(sql: str) -> None:
        if sql.startswith("BEGIN"):
            begun.append(sql)
            if len(begun) == 2:
                other.execute("BEGIN IMMEDIATE")

    writer_of(log)._connection.set_trace_callback(take_the_lock_before_the_second_group)
    begun_first, both_queued = threading.Event(), threading.Event()

    def wait_for_the_second(transaction: Transaction) -> bool:
        begun_first.set()
        return both_queued.wait(PATIENCE)

    first = asyncio.create_task(log._database.write(wait_for_the_second, brief=True))
    await asyncio.to_thread(begun_first.wait, PATIENCE)
    second = asyncio.create_task(log._database.write(where, brief=True))
    await turns_of_the_loop(3)
    both_queued.set()
    async with asyncio.timeout(PATIENCE):
        assert await first
    assert not second.done()
    other.execute("ROLLBACK")
    assert await second == "twofold-sqlite-writer"
    other.close()


async def test_an_append_that_fails_in_the_loop_is_judged_again_alone(fast: SqliteEventLog) -> None:
    stored, fresh = append_of(new_event("Note-1")), append_of(new_event("Note-1"))
    await fast.append(stored)
    twisted = append_of(stored.events[0]._replace(payload=b'{"text":"other"}'))
    again, refused, new = await asyncio.gather(*map(fast.append, (stored, twisted, fresh)), return_exceptions=True)
    assert repeated_span(again) == (1, 1)
    assert isinstance(refused, DuplicateEventIdError)
    assert span(new) == (2, 2)


async def test_closing_finishes_a_commit_that_is_due_in_the_loop(file: Path, fast: SqliteEventLog) -> None:
    pending = asyncio.create_task(fast.append(append_of(new_event("Note-1"))))
    await asyncio.sleep(0)
    await fast.close()
    assert span(await pending) == (1, 1)


async def test_a_caller_that_is_cancelled_takes_nothing_back(fast: SqliteEventLog) -> None:
    pending = [asyncio.create_task(fast.append(append_of(new_event(f"Note-{n}")))) for n in range(3)]
    await asyncio.sleep(0)
    pending[1].cancel()
    first, second, third = await asyncio.gather(*pending, return_exceptions=True)
    assert isinstance(second, asyncio.CancelledError)
    assert [span(first), span(third)] == [(1, 1), (3, 3)]
    assert await fast.head() == 3


async def test_now_and_then_the_thread_commits_so_that_the_write_ahead_log_stays_small(fast: SqliteEventLog) -> None:
    def add(transaction: Transaction) -> str:
        append_to(transaction, append_of(new_event("Note-1")))
        return where(transaction)

    names = Counter([await fast._database.write(add, brief=True) for _ in range(2 * SqliteOptions.checkpoint_changes)])
    assert names["twofold-sqlite-writer"] in (1, 2)
    assert names.total() == 2 * SqliteOptions.checkpoint_changes


@pytest.mark.parametrize("average", [-1e300, 1e300], ids=["in the loop", "in the thread"])
async def test_versions_kept_in_mind_are_forgotten_when_somebody_else_appends(file: Path, average: float) -> None:
    logs = [SqliteEventLog(SqliteDatabase(file)) for _ in range(2)]
    for log in logs:
        await log.open()
        writer_of(log)._average = average
    for version in range(6):
        append = append_of(new_event("Note-1"), expected={"Note-1": version})
        assert isinstance(await logs[version % 2].append(append), Appended)
    outcome = await logs[0].append(append_of(new_event("Note-1"), expected={"Note-1": 5}))
    assert isinstance(outcome, Rejected)
    assert outcome.version == 6
    for log in logs:
        await log.close()


async def test_versions_kept_in_mind_are_forgotten_when_an_append_is_rolled_back(log: SqliteEventLog) -> None:
    await log.append(append_of(new_event("Note-1"), expected={"Note-1": 0}))

    def fail(transaction: Transaction) -> None:
        raise ZeroDivisionError

    outcomes = await asyncio.gather(
        log.append(append_of(new_event("Note-1"), expected={"Note-1": 1})),
        log._database.write(fail),
        return_exceptions=True,
    )
    assert span(outcomes[0]) == (2, 2)
    assert isinstance(outcomes[1], ZeroDivisionError)
    assert span(await log.append(append_of(new_event("Note-1"), expected={"Note-1": 2}))) == (3, 3)
    assert [row.version for row in await log.read(EVERYTHING, limit=10)] == [1, 2, 3]


async def test_what_waits_behind_others_for_a_lock_waits_for_it_once(file: Path) -> None:
    log = SqliteEventLog(SqliteDatabase(file, options=SqliteOptions(lock_timeout=1.0, max_group=1, min_group=1)))
    await log.open()
    with locked_by_another_process(file):
        started = time.monotonic()
        appends = [log.append(append_of(new_event(f"Note-{n}"))) for n in range(6)]
        outcomes = await asyncio.gather(*appends, *(transact(log) for _ in range(6)), return_exceptions=True)
        assert {type(each) for each in outcomes} == {StorageUnavailableError}
        assert time.monotonic() - started < 5, "one after the other, the appends alone wait for six seconds"
    assert span(await log.append(append_of(new_event("Note-1")))) == (1, 1)
    await log.close()


async def transact(log: SqliteEventLog) -> None:
    async with log.transaction():
        pass
