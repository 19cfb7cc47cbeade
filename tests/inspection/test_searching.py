"""Events are found by whatever is known of them, as they are stored, on each engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
import pytest_asyncio
from tests.synchronizing import PATIENCE, deposited, engine_at, opened

from twofold import ANY, EventStore, metadata
from twofold.errors import EventNotFoundError
from twofold.inspection import EventSearch, find_event, follow_events, search_events
from twofold.inspection.searching import Recorded
from twofold.options import InspectionOptions

REQUEST = uuid4()
FEW = InspectionOptions(slice=3, page=2)
"""So that a search of a short log takes many questions."""


@pytest_asyncio.fixture
async def store(any_url: str) -> AsyncIterator[EventStore]:
    """Return a store of 20 events: of even positions in the stream of a, else of b; some for ann, some of a request."""
    async with engine_at(any_url) as (_, store):
        for n in range(1, 21):
            name = "ab"[n % 2]
            event = opened(name) if n <= 2 else deposited(name, n)
            with metadata(user="ann" if n % 5 == 0 else "ben", correlation_id=REQUEST if n in (4, 9, 17) else None):
                kind = "Account" if name == "a" else "Safe"
                await store.append_events(f"{kind}-{name}", kind, [event], expected_version=ANY)
        yield store


async def positions(store: EventStore, limit: int = 100, **search: object) -> list[int]:
    """Return the positions of what a search finds, going on from page to page."""
    wanted, found = EventSearch(**search), list[int]()  # type: ignore[arg-type]
    place: dict[str, int] = {}
    while True:
        page = await search_events(store, EventSearch(**search | place), limit=limit, options=FEW)  # type: ignore[arg-type]
        found += [each.position for each in page.events]
        if page.next is None:
            return found
        place = {"before" if wanted.newest_first else "after": page.next}


SEARCHES: list[tuple[dict[str, object], Sequence[int]]] = [
    ({}, range(1, 21)),
    ({"after": 5, "before": 9}, [6, 7, 8]),
    ({"stream": "Account-a"}, range(2, 21, 2)),
    ({"stream": "Account-a", "after": 4, "before": 11}, [6, 8, 10]),
    ({"stream": "Nothing-1"}, []),
    ({"stream_type": "Safe", "before": 6}, [1, 3, 5]),
    ({"types": ("Opened",)}, [1, 2]),
    ({"types": ("Deposited", "Opened"), "tags": ("account:a",), "after": 14}, [16, 18, 20]),
    ({"tags": ("account:b",), "user": "ann"}, [5, 15]),
    ({"user": "ann"}, [5, 10, 15, 20]),
    ({"user": "an"}, []),
    ({"correlation": REQUEST}, [4, 9, 17]),
    ({"correlation": REQUEST, "stream": "Safe-b"}, [9, 17]),
    ({"correlation": uuid4()}, []),
]


async def test_a_search_finds_what_agrees_in_either_direction_page_by_page(store: EventStore) -> None:
    for search, expected in SEARCHES:
        for limit in (1, 3, 100):
            assert await positions(store, limit, **search) == list(expected), search
            assert await positions(store, limit, newest_first=True, **search) == list(expected)[::-1], search


async def test_what_begins_a_correlation_is_found_with_what_followed(any_url: str) -> None:
    async with engine_at(any_url) as (_, store):
        await store.append([opened("x")])
        await store.append([opened("a")], event_ids=[first := uuid4()])
        with metadata(correlation_id=first):
            await store.append([deposited("a")])
        for newest_first in (False, True):
            found = await positions(store, correlation=first, newest_first=newest_first)
            assert sorted(found) == [2, 3]


async def test_events_are_found_by_the_time_at_which_they_were_recorded(store: EventStore) -> None:
    times = {each.position: each.recorded_at async for each in store.read(unknown="raw")}
    wanted = times[7], times[15]
    expected = [n for n, at in times.items() if wanted[0] <= at < wanted[1]]
    assert await positions(store, since=wanted[0], until=wanted[1]) == expected
    assert await positions(store, since=times[20] + timedelta(seconds=1)) == []
    assert await positions(store, until=times[1]) == []


async def test_one_event_is_found_by_its_position_or_its_id_without_its_class(store: EventStore) -> None:
    found = await find_event(store, 2)
    assert (found.type, found.stream_id, found.event.payload) == (
        "Opened",
        "Account-a",
        b'{"account":"a","owner":"ann"}',
    )
    assert await find_event(store, found.event_id) == found
    for missing in (21, uuid4()):
        with pytest.raises(EventNotFoundError, match="ends at position 20"):
            await find_event(store, missing)


async def test_a_search_that_has_looked_at_its_share_says_where_to_go_on(store: EventStore) -> None:
    least = InspectionOptions(slice=4, most_seen=4)
    page = await search_events(store, EventSearch(user="ann"), options=least)
    assert ([each.position for each in page.events], page.next) == ([], 4)
    page = await search_events(store, EventSearch(user="ann", after=4), options=least)
    assert ([each.position for each in page.events], page.next) == ([5], 8)


async def test_what_is_appended_is_followed_behind_the_last_events(store: EventStore) -> None:
    seen: asyncio.Queue[Recorded] = asyncio.Queue()

    async def follow() -> None:
        async with aclosing(follow_events(store, EventSearch(tags=("account:a",)), last=2)) as events:
            async for each in events:
                await seen.put(each)

    task = asyncio.create_task(follow())
    async with asyncio.timeout(PATIENCE):
        assert [(await seen.get()).position for _ in range(2)] == [18, 20]
        await store.append([deposited("b")])
        await store.append([deposited("a")])
        assert (await seen.get()).position == 22
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    "wrong",
    [{"types": "Opened"}, {"tags": [5]}, {"correlation": "x"}, {"since": "today"}, {"until": datetime(2026, 1, 1)},  # noqa: DTZ001
     {"after": -1}, {"before": "9"}, {"newest_first": 1}, {"stream": None}],
)  # fmt: skip
def test_a_search_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        EventSearch(**wrong)  # type: ignore[arg-type]
