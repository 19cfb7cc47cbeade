"""Events that older code has stored, under another name and schema, are of today on every path out of the log."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import pytest_asyncio

from twofold import (
    Aggregate,
    AppendCondition,
    DecisionModel,
    Event,
    EventQuery,
    EventStore,
    RecordedEvent,
    Repository,
    Tag,
    event_type,
    on,
    open_event_store,
)
from twofold.errors import ConflictError


@event_type("SeatTaken")
@dataclass(frozen=True, kw_only=True)
class SeatTaken(Event):
    hall: Annotated[str, Tag("hall")]
    seat: str


@event_type(
    "SeatBooked", version=2, aliases=("SeatTaken",), upcasters={1: lambda data: data | {"seat": int(data["seat"])}}
)
@dataclass(frozen=True, kw_only=True)
class SeatBooked(Event):
    hall: Annotated[str, Tag("hall")]
    seat: int


class Hall(Aggregate):
    stream_type = "Hall"

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.seats: list[int] = []

    @on(SeatBooked)
    def booked(self, event: SeatBooked) -> None:
        self.seats.append(event.seat)


BOOKINGS = EventQuery.of(SeatBooked, tags=["hall:a"])
OF_TODAY = [SeatBooked(hall="a", seat=1), SeatBooked(hall="a", seat=2)]


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[EventStore]:
    """Hold one event of the older code and one of today's."""
    async with open_event_store(url) as store:
        await EventStore(store.log).append_events("Hall-a", "Hall", [SeatTaken(hall="a", seat="1")], expected_version=0)
        store.events.register(SeatBooked)
        await store.append_events("Hall-a", "Hall", [SeatBooked(hall="a", seat=2)], expected_version=1)
        yield store


async def events(recorded: AsyncIterator[RecordedEvent[SeatBooked]]) -> list[SeatBooked]:
    return [each.event async for each in recorded]


async def test_all_events_are_of_today(store: EventStore) -> None:
    assert await events(store.read()) == OF_TODAY
    assert await events(store.read(backwards=True)) == OF_TODAY[::-1]


async def test_the_events_that_a_query_by_class_matches_are_of_today(store: EventStore) -> None:
    assert await events(store.read(BOOKINGS)) == OF_TODAY
    assert await events(store.read(EventQuery.of(SeatBooked))) == OF_TODAY


async def test_a_stream_is_of_today(store: EventStore) -> None:
    assert await events(store.read_stream("Hall-a")) == OF_TODAY


async def test_a_subscription_is_of_today(store: EventStore) -> None:
    for subscribed in (store.subscribe(), store.subscribe(BOOKINGS), store.subscribe(stream_id="Hall-a")):
        assert [each.event for each in (await anext(subscribed)).events] == OF_TODAY


async def test_an_aggregate_is_made_of_events_of_today(store: EventStore) -> None:
    assert (await Repository(store, Hall).load("a")).seats == [1, 2]


async def test_a_decision_is_made_on_events_of_today(store: EventStore) -> None:
    model = DecisionModel(query=BOOKINGS, initial_state=0, evolve=lambda total, recorded: total + recorded.event.seat)
    assert (await store.decide(model)).state == 3


async def test_the_conflicts_of_a_rejected_append_are_of_today(store: EventStore) -> None:
    with pytest.raises(ConflictError) as by_condition:
        await store.append([SeatBooked(hall="a", seat=3)], condition=AppendCondition(BOOKINGS))
    with pytest.raises(ConflictError) as by_version:
        await store.append_events("Hall-a", "Hall", [SeatBooked(hall="a", seat=3)], expected_version=0)
    for rejected in (by_condition.value, by_version.value):
        assert [each.event for each in rejected.conflicts] == OF_TODAY


WRITE = """
import asyncio, sys
from dataclasses import dataclass
from twofold import ANY, Event, open_event_store

@dataclass(frozen=True)
class Moved(Event):
    number: int

async def main():
    async with open_event_store(sys.argv[1]) as store:
        await store.append([Moved(7)])

asyncio.run(main())
"""


async def test_a_class_may_move_to_another_module(url: str, tmp_path: Path) -> None:
    (tmp_path / "old_home.py").write_text(WRITE)
    subprocess.run([sys.executable, tmp_path / "old_home.py", url], check=True)  # noqa: ASYNC221

    @dataclass(frozen=True)
    class Moved(Event):
        number: int

    async with open_event_store(url) as store:
        store.events.register(Moved)
        assert [each.event async for each in store.read()] == [Moved(7)]
