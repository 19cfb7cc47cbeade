"""What the ways of reading return."""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

from collections.abc import Sequence

import pytest

from twofold.messages.event_query import EventQuery, QueryItem
from twofold.messages.stored_event import StoredEvent
from twofold.ports.event_log import EventLog
from twofold.testing.samples import Noted, Revised, Withdrawn, append_of, new_event, topic

EVERYTHING = EventQuery.all()


async def seed(log: EventLog) -> None:
    """Store ten events: odd ones Noted, even ones Revised; topic x every second, y every third, z every fifth."""
    events = []
    for n in range(1, 11):
        topics = [name for name, step in (("x", 2), ("y", 3), ("z", 5)) if n % step == 0]
        events.append(new_event(f"Note-{n % 3}", *topics, kind=Revised if n % 2 == 0 else Noted, text=str(n)))
    await log.append(append_of(*events[:4]))
    await log.append(append_of(*events[4:]))


def at(rows: Sequence[StoredEvent]) -> list[int]:
    """Return the positions."""
    return [row.position for row in rows]


class ReadPromises:
    """Reads return exactly what matches, once, in order."""

    @pytest.mark.parametrize(
        ("query", "matching"),
        [
            pytest.param(EVERYTHING, list(range(1, 11)), id="all"),
            pytest.param(topic("x"), [2, 4, 6, 8, 10], id="a tag"),
            pytest.param(topic("x", "y"), [6], id="tags"),
            pytest.param(topic("x", "y", "z"), [], id="no match"),
            pytest.param(topic(kinds=(Noted,)), [1, 3, 5, 7, 9], id="a type"),
            pytest.param(topic(kinds=(Noted, Revised)), list(range(1, 11)), id="types"),
            pytest.param(topic(kinds=(Withdrawn,)), [], id="a type that never occurred"),
            pytest.param(topic("y", kinds=(Noted,)), [3, 9], id="a type and a tag"),
            pytest.param(topic("y", kinds=(Noted, Revised)), [3, 6, 9], id="types and a tag"),
            pytest.param(topic("x") | topic("y"), [2, 3, 4, 6, 8, 9, 10], id="items that overlap"),
            pytest.param(topic("z") | topic("z", kinds=(Noted,)), [5, 10], id="an item within another"),
            pytest.param(topic("y") | topic(kinds=(Noted,)), [1, 3, 5, 6, 7, 9], id="items of tags and of types"),
            pytest.param(topic("absent") | EVERYTHING, list(range(1, 11)), id="all beside another item"),
        ],
    )
    async def test_a_query_returns_each_matching_event_once_and_in_order(
        self, log: EventLog, query: EventQuery, matching: list[int]
    ) -> None:
        await seed(log)
        assert at(await log.read(query, limit=100)) == matching
        assert at(await log.read(query, limit=100, backwards=True)) == matching[::-1]
        for after, before, limit in ((0, None, 2), (3, None, 100), (3, 9, 100), (4, 10, 2), (0, 5, 3), (9, None, 5)):
            within = [n for n in matching if after < n < (before or 99)]
            assert at(await log.read(query, after=after, before=before, limit=limit)) == within[:limit]
            backwards = await log.read(query, after=after, before=before, limit=limit, backwards=True)
            assert at(backwards) == within[::-1][:limit]

    async def test_an_empty_log_returns_nothing(self, log: EventLog) -> None:
        assert at(await log.read(EVERYTHING, limit=10)) == []
        assert at(await log.read(topic("x"), limit=10, backwards=True)) == []
        assert at(await log.read_stream("Note-1", limit=10)) == []

    async def test_after_and_before_are_exclusive(self, log: EventLog) -> None:
        await seed(log)
        assert at(await log.read(EVERYTHING, after=4, before=7, limit=100)) == [5, 6]
        assert at(await log.read(EVERYTHING, after=4, before=7, limit=100, backwards=True)) == [6, 5]
        assert at(await log.read(EVERYTHING, after=4, before=5, limit=100)) == []
        assert at(await log.read(EVERYTHING, before=1, limit=100)) == []
        assert at(await log.read(EVERYTHING, after=7, before=4, limit=100)) == []

    async def test_places_beyond_the_head_are_no_error(self, log: EventLog) -> None:
        await seed(log)
        assert at(await log.read(EVERYTHING, after=10, limit=100)) == []
        assert at(await log.read(EVERYTHING, after=1_000_000, limit=100)) == []
        assert at(await log.read(topic("z"), before=1_000_000, limit=100)) == [5, 10]
        assert at(await log.read(topic("x"), after=1_000_000, before=2_000_000, limit=9, backwards=True)) == []

    async def test_pages_of_any_size_make_up_the_whole(self, log: EventLog) -> None:
        await seed(log)
        for query in (EVERYTHING, topic("x") | topic("y")):
            whole = at(await log.read(query, limit=100))
            for size in (1, 2, 3, 4):
                last, collected = 0, list[int]()
                while page := at(await log.read(query, after=last, limit=size)):
                    assert len(page) <= size
                    assert page[0] > last
                    collected, last = collected + page, page[-1]
                assert collected == whole

    async def test_pages_backwards_make_up_the_whole(self, log: EventLog) -> None:
        await seed(log)
        before, collected = None, list[int]()
        while page := at(await log.read(topic("x") | topic("y"), before=before, limit=2, backwards=True)):
            assert before is None or page[0] < before
            collected, before = collected + page, page[-1]
        assert collected == [10, 9, 8, 6, 4, 3, 2]

    async def test_a_query_may_have_a_thousand_items(self, log: EventLog) -> None:
        await log.append(append_of(*(new_event("", f"t{n}") for n in (999, 7, 1000, 7, 0))))
        query = EventQuery(tuple(QueryItem(("Noted",), (f"topic:t{n}",)) for n in range(1000)))
        assert at(await log.read(query, limit=100)) == [1, 2, 4, 5]
        assert at(await log.read(query, limit=2, backwards=True)) == [5, 4]
        assert at(await log.read(EventQuery(tuple(QueryItem((f"T{n}",)) for n in range(1000))), limit=100)) == []

    async def test_a_stream_is_read_in_the_order_of_its_versions(self, log: EventLog) -> None:
        await seed(log)
        rows = await log.read_stream("Note-1", limit=100)
        assert [(row.version, row.position) for row in rows] == [(1, 1), (2, 4), (3, 7), (4, 10)]
        assert {row.stream_id for row in rows} == {"Note-1"}

    async def test_a_stream_is_read_without_types_but_for_the_next_event_and_the_last_one(self, log: EventLog) -> None:
        kinds = [Noted, Revised, Revised, Noted, Withdrawn, Revised, Noted, Revised, Revised]
        await log.append(append_of(*(new_event("Note-1", kind=kind) for kind in kinds), new_event("Note-2")))

        async def versions(*without: str, after: int = 0, limit: int = 100) -> list[int]:
            rows = await log.read_stream("Note-1", after=after, limit=limit, without=without)
            assert {row.stream_id for row in rows} <= {"Note-1"}
            return [row.version for row in rows]

        assert await versions("Revised") == [1, 4, 5, 7, 9]
        assert await versions("Noted", "Withdrawn") == [1, 2, 3, 6, 8, 9]
        assert await versions("Noted", "Revised", "Withdrawn") == [1, 9]
        assert await versions("Revised", after=2) == [3, 4, 5, 7, 9]
        assert await versions("Revised", limit=2) == [1, 4]
        assert await versions("Revised", after=8) == [9]
        assert await versions("Revised", after=9) == []
        assert await versions("Absent") == list(range(1, 10))

    async def test_a_stream_is_read_after_a_version_and_up_to_a_limit(self, log: EventLog) -> None:
        await seed(log)
        assert at(await log.read_stream("Note-1", after=2, limit=100)) == [7, 10]
        assert at(await log.read_stream("Note-1", after=1, limit=2)) == [4, 7]
        assert at(await log.read_stream("Note-1", after=4, limit=100)) == []
        assert at(await log.read_stream("Note-1", after=99, limit=100)) == []

    async def test_a_stream_that_was_never_written_is_empty(self, log: EventLog) -> None:
        await seed(log)
        assert at(await log.read_stream("Note", limit=100)) == []
        assert at(await log.read_stream("Note-11", limit=100)) == []

    async def test_the_head_is_the_highest_position(self, log: EventLog) -> None:
        assert await log.head() == 0
        await log.append(append_of(new_event("Note-1"), new_event()))
        assert await log.head() == 2
        await log.append(append_of(new_event("Note-1")))
        assert await log.head() == 3

    async def test_what_was_read_does_not_change_when_the_log_grows(self, log: EventLog) -> None:
        await seed(log)
        rows, stream = await log.read(EVERYTHING, limit=100), await log.read_stream("Note-1", limit=100)
        before = (list(rows), list(stream))
        await log.append(append_of(new_event("Note-1")))
        assert (list(rows), list(stream)) == before
        assert list(await log.read(EVERYTHING, limit=10)) == before[0]
