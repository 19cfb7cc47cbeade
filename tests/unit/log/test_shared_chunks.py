"""Readers that go through a long log side by side read it once, and each gets what it would have read by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest
import pytest_asyncio
from tests.accounts import Deposited, Opened, Withdrawn
from tests.recording_log import RecordingLog, log_of_deposits
from tests.synchronizing import opened, write

from twofold import EventQuery, EventStore
from twofold.engines.memory import MemoryEventLog
from twofold.errors import HistoryChangedError
from twofold.log.shared_scans import SharedReader, SharedScans
from twofold.messages.mark import START, Mark
from twofold.options import LogOptions

QUERIES = [
    EventQuery.all(),
    EventQuery.exactly(Opened),
    EventQuery.exactly(Deposited),
    EventQuery.exactly(Opened, Deposited),
    EventQuery.exactly(Withdrawn),
]
EVENTS = 600
NEAR = 5


@pytest_asyncio.fixture
async def log() -> AsyncIterator[RecordingLog]:
    async with log_of_deposits(EVENTS) as log:
        yield log


class Walk:
    """One who goes through the log, by its own steps."""

    def __init__(self, scans: SharedScans, query: EventQuery, limit: int = 50) -> None:
        self.query, self.limit = query, limit
        self.reader: SharedReader = scans.reader(query)
        self.mark, self.positions = START, list[int]()

    async def step(self, end: int = EVENTS) -> None:
        before = self.mark
        scan = await self.reader.scan(self.query, after=before, end=end, limit=self.limit)
        assert len(scan.rows) <= self.limit
        assert before.position < scan.covered.position <= end
        self.positions += [row.position for row in scan.rows]
        self.mark = scan.covered

    async def to_the_end(self) -> None:
        while self.mark.position < EVENTS:
            await self.step()
            await asyncio.sleep(0)


async def all_of(log: RecordingLog, query: EventQuery) -> list[int]:
    return [row.position for row in (await log.scan(query, after=START, limit=EVENTS)).rows]


async def test_fifty_readers_side_by_side_read_the_log_once(log: RecordingLog) -> None:
    scans = SharedScans(log, NEAR)
    walks = [Walk(scans, QUERIES[number % len(QUERIES)]) for number in range(50)]
    await asyncio.gather(*(walk.to_the_end() for walk in walks))
    assert log.rows_scanned < 3 * EVENTS  # the first chunks are small, and so each begins by itself
    for walk in walks:
        assert walk.positions == await all_of(log, walk.query)


@pytest.mark.parametrize("seed", range(20))
async def test_each_gets_all_of_its_events_whatever_the_others_do(log: RecordingLog, seed: int) -> None:
    chance = Random(seed)
    scans = SharedScans(log, NEAR, LogOptions(shared_chunk=chance.choice((20, 100, 1000)), first_chunk=10))
    walks = [Walk(scans, chance.choice(QUERIES), chance.choice((1, 7, 100))) for _ in range(8)]
    while going := [walk for walk in walks if walk.mark.position < EVENTS]:
        some = chance.sample(going, chance.randint(1, len(going)))
        await asyncio.gather(*(walk.step(min(EVENTS, walk.mark.position + chance.randint(1, 300))) for walk in some))
    for walk in walks:
        assert walk.positions == await all_of(log, walk.query)


async def test_one_that_is_far_from_the_others_reads_only_what_it_wants(log: RecordingLog) -> None:
    scans = SharedScans(log, NEAR, LogOptions(shared_chunk=100))
    ahead, behind = Walk(scans, QUERIES[0], 300), Walk(scans, QUERIES[1], 300)
    await ahead.step()
    await ahead.step(EVENTS - NEAR)
    log.rows_scanned = 0
    await behind.step()
    assert log.rows_scanned == len(behind.positions)


async def test_chunks_are_dropped_once_all_have_passed_them_and_a_slow_reader_keeps_few(log: RecordingLog) -> None:
    scans = SharedScans(log, NEAR, LogOptions(shared_chunk=50, first_chunk=50, shared_chunks=2))
    slow, quick = Walk(scans, QUERIES[0], 10), Walk(scans, QUERIES[0], 10)
    await slow.step()
    await quick.to_the_end()
    assert len(scans._chunks._chunks) <= 2
    await slow.to_the_end()
    await quick.reader.scan(QUERIES[0], after=await marked(log, EVENTS - 1), end=EVENTS, limit=1)
    assert not scans._chunks._chunks


async def test_a_chunk_of_a_history_that_the_log_has_lost_is_given_to_no_one(log: RecordingLog) -> None:
    scans = SharedScans(log, NEAR, LogOptions(first_chunk=300))
    first, second = Walk(scans, QUERIES[0], 20), Walk(scans, QUERIES[0], 20)
    await first.step()
    await second.step()  # a chunk, of which it has taken a part
    assert scans._chunks._chunks
    other = RecordingLog(MemoryEventLog())
    await other.open()
    same = (await log.scan(QUERIES[0], after=START, limit=30)).rows
    await other._behind.restore(same)  # type: ignore[attr-defined]
    await write(EventStore(other), *(opened("z") for _ in range(EVENTS - 30)))
    await log.close()
    log._behind = other._behind
    await second.step()
    fresh = (await log.scan(QUERIES[0], after=await marked(log, 20), limit=20)).rows
    assert second.positions[20:] == [row.position for row in fresh]
    assert second.mark.event_id == fresh[-1].event_id
    second.mark = Mark(100, b"0123456789abcdef")
    with pytest.raises(HistoryChangedError):
        await second.step()


async def marked(log: RecordingLog, position: int) -> Mark:
    found = await log.mark(position)
    assert found is not None
    return found
