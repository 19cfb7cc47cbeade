"""What consumers read, and how far they have then seen the log."""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from twofold.errors import HistoryChangedError
from twofold.messages.event_query import EventQuery
from twofold.messages.ids import uuid7
from twofold.messages.mark import Mark
from twofold.ports.event_log import EventLog
from twofold.testing.event_log_suite.reads import EVERYTHING, at, seed
from twofold.testing.samples import Noted, Withdrawn, append_of, new_event, topic

QUERIES = [
    pytest.param(EVERYTHING, id="all"),
    pytest.param(topic("x"), id="a tag"),
    pytest.param(topic(kinds=(Noted,)), id="a type"),
    pytest.param(topic("x") | topic("y", kinds=(Noted,)), id="items"),
    pytest.param(topic(kinds=(Withdrawn,)), id="no match"),
]


class ScanPromises:
    """A position is covered by rows that were read, or by a head of the same snapshot."""

    @pytest.mark.parametrize("query", QUERIES)
    async def test_a_scan_returns_what_a_read_returns(self, log: EventLog, query: EventQuery) -> None:
        await seed(log)
        for after, end, limit in (
            (0, None, 100),
            (3, None, 2),
            (3, 8, 100),
            (9, None, 5),
            (10, None, 5),
            (2, 10**15, 3),
        ):
            scan = await log.scan(query, after=Mark(after), end=end, limit=limit)
            before = None if end is None else end + 1
            assert list(scan.rows) == list(await log.read(query, after=after, before=before, limit=limit))

    @pytest.mark.parametrize("query", QUERIES)
    async def test_a_scan_covers_up_to_its_last_row_if_there_may_be_more(
        self, log: EventLog, query: EventQuery
    ) -> None:
        await seed(log)
        for size in (1, 2, 3, 100):
            mark, seen = Mark(0), list[int]()
            while mark.position < 10:
                rows, covered = await log.scan(query, after=mark, limit=size)
                assert covered == (
                    Mark(rows[-1].position, rows[-1].event_id) if len(rows) == size else await log.mark(10)
                )
                seen, mark = seen + at(rows), covered
            assert seen == at(await log.read(query, limit=100))

    async def test_a_scan_covers_up_to_the_end_it_was_given(self, log: EventLog) -> None:
        await seed(log)
        assert (await log.scan(topic("z"), after=Mark(0), end=7, limit=9)).covered == await log.mark(7)
        assert (await log.scan(topic("z"), after=Mark(0), end=4, limit=9)).covered == await log.mark(4)
        assert (await log.scan(topic("z"), after=Mark(6), end=6, limit=9)).covered == await log.mark(6)
        assert (await log.scan(topic("z"), after=Mark(6), end=2, limit=9)).covered == await log.mark(6)
        assert (await log.scan(topic("z"), after=Mark(0), end=0, limit=9)).covered == await log.mark(0)

    async def test_a_scan_at_the_head_covers_what_stands_there(self, log: EventLog) -> None:
        assert await log.scan(EVERYTHING, after=Mark(0), limit=5) == ([], await log.mark(0))
        await seed(log)
        assert await log.scan(EVERYTHING, after=Mark(10), limit=5) == ([], await log.mark(10))

    async def test_a_mark_names_the_event_that_stands_there(self, log: EventLog) -> None:
        await seed(log)
        for row in await log.read(EVERYTHING, limit=100):
            assert await log.mark(row.position) == Mark(row.position, row.event_id)
        assert await log.mark(11) is None
        assert await log.mark(10**30) is None

    async def test_a_log_has_an_id_of_its_own_from_the_beginning(self, log: EventLog) -> None:
        own = await log.mark(0)
        assert own is not None
        assert own.position == 0
        assert len(own.event_id) == 16
        await seed(log)
        assert await log.mark(0) == own
        assert at((await log.scan(EVERYTHING, after=own, limit=2)).rows) == [1, 2]

    @pytest.mark.parametrize("query", QUERIES)
    async def test_a_scan_refuses_a_mark_of_another_history(self, log: EventLog, query: EventQuery) -> None:
        await seed(log)
        for position in (0, 1, 7, 10):
            other = Mark(position, uuid7().bytes)
            with pytest.raises(HistoryChangedError) as refused:
                await log.scan(query, after=other, limit=5)
            assert (refused.value.read, refused.value.found) == (other, await log.mark(position))

    @pytest.mark.parametrize("query", QUERIES)
    async def test_a_scan_refuses_to_go_on_behind_the_end_of_the_log(self, log: EventLog, query: EventQuery) -> None:
        await seed(log)
        for beyond in (Mark(11), Mark(11, uuid7().bytes), Mark(10**15)):
            with pytest.raises(HistoryChangedError) as refused:
                await log.scan(query, after=beyond, limit=5)
            assert (refused.value.found, refused.value.head) == (None, 10)

    async def test_scans_beside_appends_miss_nothing(self, log: EventLog) -> None:
        async def follow() -> list[int]:
            seen, mark = list[int](), Mark(0)
            while mark.position < 100:
                rows, mark = await log.scan(topic("odd"), after=mark, limit=7)
                seen += at(rows)
                await asyncio.sleep(0)
            return seen

        async def write(tag: str) -> None:
            for _ in range(25):
                await log.append(append_of(new_event("", tag), new_event("", "even")))

        async with asyncio.timeout(30):
            seen, *_ = await asyncio.gather(follow(), write("odd"), write("odd"))
        assert seen == at(await log.read(topic("odd"), limit=100))
        assert len(seen) == 50

    async def test_marks_outlive_the_object(self, log: EventLog, another: Callable[[], EventLog]) -> None:
        await seed(log)
        other = another()
        await other.open()
        try:
            for position in (0, 1, 10):
                assert await other.mark(position) == await log.mark(position)
        finally:
            await other.close()
