"""Readers that are near the head read the log together, and each gets what it would have read by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
import pytest_asyncio
from tests.accounts import Deposited, Opened
from tests.recording_log import RecordingLog, log_of_deposits
from tests.synchronizing import opened, write

from twofold import EventQuery, EventStore
from twofold.errors import HistoryChangedError, StorageUnavailableError
from twofold.log.shared_scans import SharedScans
from twofold.messages.mark import Mark
from twofold.options import LogOptions
from twofold.ports.event_log import Scan

QUERIES = [
    EventQuery.all(),
    EventQuery.of(Opened),
    EventQuery.of(Deposited),
    EventQuery.of(Opened, Deposited),
    EventQuery.of("Nothing"),
    EventQuery.of(Deposited, tags=["account:b"]),
]
EVENTS = 30


@pytest_asyncio.fixture
async def log() -> AsyncIterator[RecordingLog]:
    async with log_of_deposits(EVENTS) as log:
        yield log


class Readers:
    """Scans for one reader each time, beside others that live as long as this."""

    def __init__(self, scans: SharedScans, others: int) -> None:
        self._scans = scans
        self._others = [scans.reader(EventQuery.all()) for _ in range(others)]

    async def scan(self, query: EventQuery, **window: Any) -> Scan:
        return await self._scans.reader(query).scan(query, **window)


def shared(log: RecordingLog, near: int = 100, others: int = 2, options: LogOptions | None = None) -> Readers:
    """Return what scans beside some other readers."""
    return Readers(SharedScans(log, near, options), others)


async def mark(log: RecordingLog, position: int) -> Mark:
    found = await log.mark(position)
    assert found is not None
    return found


async def test_what_fifty_want_at_one_moment_is_read_once(log: RecordingLog) -> None:
    scans = shared(log)
    after = await mark(log, 20)
    queries = [QUERIES[n % len(QUERIES)] for n in range(50)]
    found = await asyncio.gather(*(scans.scan(each, after=after, end=EVENTS, limit=100) for each in queries))
    assert log.calls["scan"] == 1
    assert {scan.covered.position for scan in found} == {EVENTS}
    assert [row.position for row in found[1].rows] == [21, 26]


@pytest.mark.parametrize("seed", range(20))
async def test_each_gets_what_it_would_have_read_by_itself(log: RecordingLog, seed: int) -> None:
    """But for a part that is shorter, which says so: `covered` is where to go on."""
    chance, scans = Random(seed), shared(log)
    wanted = []
    for _ in range(10):
        position = chance.randrange(EVENTS)
        wanted.append((chance.choice(QUERIES), await mark(log, position), position + chance.randrange(1, 20)))
    limits = [chance.choice((1, 2, 3, 50)) for _ in wanted]
    found = await asyncio.gather(
        *(scans.scan(q, after=m, end=e, limit=n) for (q, m, e), n in zip(wanted, limits, strict=True))
    )
    for (query, after, end), limit, scan in zip(wanted, limits, found, strict=True):
        assert after.position < scan.covered.position <= min(end, EVENTS)
        assert scan.covered == await mark(log, scan.covered.position)
        alone = await log.scan(query, after=after, end=scan.covered.position, limit=EVENTS)
        assert list(scan.rows) == list(alone.rows)
        assert len(scan.rows) <= limit


async def test_a_mark_of_another_history_is_refused_to_its_reader_alone(log: RecordingLog) -> None:
    scans = shared(log)
    wrong = Mark(25, b"0123456789abcdef")
    marks = [await mark(log, 20), wrong, await mark(log, 24)]
    found = await asyncio.gather(
        *(scans.scan(EventQuery.all(), after=each, end=EVENTS, limit=100) for each in marks), return_exceptions=True
    )
    assert isinstance(found[1], HistoryChangedError)
    assert [len(each.rows) for each in (found[0], found[2]) if isinstance(each, Scan)] == [10, 6]


async def test_a_lowest_mark_of_another_history_harms_no_other(log: RecordingLog) -> None:
    scans = shared(log)
    marks = [Mark(10, b"0123456789abcdef"), await mark(log, 20)]
    found = await asyncio.gather(
        *(scans.scan(EventQuery.all(), after=each, end=EVENTS, limit=100) for each in marks), return_exceptions=True
    )
    assert isinstance(found[0], HistoryChangedError)
    assert isinstance(found[1], Scan)
    assert len(found[1].rows) == 10


async def test_everyone_learns_that_the_database_is_away(log: RecordingLog) -> None:
    scans = shared(log)
    after, log.away = await mark(log, 20), True
    found = await asyncio.gather(
        *(scans.scan(each, after=after, end=EVENTS, limit=100) for each in QUERIES), return_exceptions=True
    )
    assert {type(each) for each in found} == {StorageUnavailableError}


async def test_one_that_is_cancelled_takes_no_other_along(log: RecordingLog) -> None:
    scans = shared(log)
    after = await mark(log, 20)
    tasks = [asyncio.create_task(scans.scan(QUERIES[0], after=after, end=EVENTS, limit=100)) for _ in range(4)]
    await asyncio.sleep(0)  # the first leads now
    tasks[0].cancel()
    tasks[2].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in found] == [asyncio.CancelledError, Scan, asyncio.CancelledError, Scan]


async def test_large_events_that_no_reader_handles_do_not_come_all_at_once(log: RecordingLog) -> None:
    await write(EventStore(log), *(opened("a" * 400) for _ in range(60)))
    scans = shared(log, options=LogOptions(first_chunk=10, chunk_bytes=5000))
    after, end, largest = await mark(log, EVENTS), EVENTS + 60, 0
    while after.position < end:
        before, log.rows_scanned = after, 0
        found = await asyncio.gather(*(scans.scan(QUERIES[2], after=after, end=end, limit=1000) for _ in range(2)))
        after, largest = found[0].covered, max(largest, log.rows_scanned)
        assert after.position > before.position
    assert largest <= 12


async def test_who_is_alone_reads_for_itself(log: RecordingLog) -> None:
    scans = shared(log, others=0)
    await scans.scan(EventQuery.of(Opened), after=await mark(log, 20), end=EVENTS, limit=9)
    assert log.calls["scan"] == 1
    assert log.rows_scanned == 2
