from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from twofold.log.chunks import Pace, Rows, chunks
from twofold.messages.stored_event import StoredEvent, record
from twofold.testing.samples import new_event

FIRST, CHUNK, BYTES = 100, 250, 16 << 20
ROWS = [record(new_event(), position, 0, 1) for position in range(1, 3001)]


class Source:
    """Answers with some of the rows, and remembers what it was asked for."""

    def __init__(self, rows: Sequence[StoredEvent] = ROWS, fails_after: int = 10_000) -> None:
        self.rows = rows
        self.fails_after = fails_after
        self.asked: list[int] = []
        self.held = asyncio.Event()
        self.held.set()
        self.cancelled = False

    async def __call__(self, after: int, size: int) -> tuple[Rows, int]:
        self.asked.append(size)
        try:
            await self.held.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if after >= self.fails_after:
            raise ZeroDivisionError
        return self.rows[after : after + size], after + size


def in_chunks(source: Source, limit: int | None = None, *, most_bytes: int = BYTES) -> AsyncGenerator[Rows]:
    return chunks(source, 0, Pace(FIRST, CHUNK, most_bytes), limit)


@pytest.mark.parametrize("count", [0, 1, FIRST - 1, FIRST, FIRST + 1, 5 * FIRST, 3000])
async def test_all_rows_come_in_order_in_chunks_that_grow(count: int) -> None:
    source = Source(ROWS[:count])
    found = [chunk async for chunk in in_chunks(source)]
    assert [row for chunk in found for row in chunk] == ROWS[:count]
    assert source.asked == sorted(source.asked)
    assert max(source.asked) <= CHUNK


@pytest.mark.parametrize("limit", [0, 1, FIRST, FIRST + 1, 2500])
async def test_no_more_rows_are_read_than_the_limit_allows(limit: int) -> None:
    source = Source()
    assert [row async for chunk in in_chunks(source, limit) for row in chunk] == ROWS[:limit]
    assert sum(source.asked) == limit


async def test_chunks_shrink_where_events_are_large() -> None:
    source = Source(ROWS[:500])
    found = in_chunks(source, most_bytes=50 * len(ROWS[0].payload))
    assert [row async for chunk in found for row in chunk] == ROWS[:500]
    assert (source.asked[0], {*source.asked[1:]}) == (FIRST, {50})


async def test_the_next_chunk_is_on_its_way_while_one_is_at_work() -> None:
    source = Source()
    async with aclosing(in_chunks(source)) as found:
        await anext(found)
        assert len(source.asked) == 2


async def test_a_reader_that_stops_calls_off_what_was_in_chunks() -> None:
    source = Source()
    async with aclosing(in_chunks(source)) as found:
        source.held.set()
        first = asyncio.ensure_future(anext(found))
        await asyncio.sleep(0)
        source.held.clear()
        await first
    assert source.cancelled
    assert len(asyncio.all_tasks()) == 1


async def test_an_error_comes_after_the_rows_that_were_read_before_it() -> None:
    seen: list[StoredEvent] = []
    with pytest.raises(ZeroDivisionError):
        async for chunk in in_chunks(Source(fails_after=FIRST)):
            seen += chunk
    assert seen == ROWS[:FIRST]
