"""Reactions that take events in batches keep what single ones promise: order, at least once, only poison is parked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from tests.accounts import Deposited
from tests.synchronizing import PATIENCE, QUICK, deposited, running, until, write

from twofold import BatchReaction, EventStore, ProjectionState, ReadModelSynchronizer, RecordedEvent
from twofold.engines.engine import Engine
from twofold.errors import InvalidProjectionError


class Publisher(BatchReaction):
    """Publishes accounts and positions; refuses an amount of 13, after it has published what stands before."""

    name = "publisher"
    batch_size = 8
    mended = False

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.published: list[tuple[str, int]] = []

    def handles(self) -> tuple[type, ...]:
        return (Deposited,)

    def key(self, event: Any) -> str:
        return str(event.account)

    async def apply(self, events: Sequence[RecordedEvent[Deposited]]) -> None:
        self.calls.append([each.position for each in events])
        for each in events:
            if each.event.amount == 13 and not self.mended:
                raise ArithmeticError("unlucky")
            self.published.append((each.event.account, each.position))

    def of(self, account: str) -> list[int]:
        """Return the positions that were published of an account, each where it came first."""
        return list(dict.fromkeys(position for name, position in self.published if name == account))


@pytest.fixture
def synchronizer(engine: Engine, store: EventStore) -> ReadModelSynchronizer:
    return ReadModelSynchronizer(store, engine.read_database, options=QUICK)


async def added(synchronizer: ReadModelSynchronizer, publisher: Publisher) -> Publisher:
    synchronizer.add(publisher)
    await synchronizer.prepare()
    return publisher


async def test_events_come_in_batches_in_order_and_once(synchronizer: ReadModelSynchronizer, store: EventStore) -> None:
    publisher = await added(synchronizer, Publisher())
    last = await write(store, *(deposited("ab"[number % 2]) for number in range(20)))
    async with running(synchronizer):
        await synchronizer.wait(last, PATIENCE)
    assert [position for call in publisher.calls for position in call] == list(range(1, 21))
    assert max(map(len, publisher.calls)) == 8


async def test_an_event_that_fails_again_and_again_is_found_and_parked_with_the_later_ones_of_its_key(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    publisher, control = await added(synchronizer, Publisher()), synchronizer.control("publisher")
    amounts = [("a", 1), ("b", 1), ("a", 13), ("c", 1), ("a", 1), ("b", 1), ("c", 13), ("b", 1)]
    await write(store, *(deposited(account, amount) for account, amount in amounts))
    async with running(synchronizer):
        await synchronizer.wait(await write(store, deposited("c"), deposited("d")), PATIENCE)
        assert [(each.position, bool(each.cause)) for each in await control.parked()] == [
            (3, True), (5, False), (7, True), (9, False),
        ]  # fmt: skip
        assert {name: publisher.of(name) for name in "abcd"} == {"a": [1], "b": [2, 6, 8], "c": [4], "d": [10]}
        publisher.mended = True
        await control.retry()

        async def is_empty() -> bool:
            return not await control.parked()

        await until(is_empty)
    assert {name: publisher.of(name) for name in "abcd"} == {"a": [1, 3, 5], "b": [2, 6, 8], "c": [4, 7, 9], "d": [10]}


async def test_the_event_that_fails_is_found_by_halves_and_no_half_comes_twice(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    publisher = await added(synchronizer, Publisher())
    await write(store, *(deposited(account, 13 if account == "c" else 1) for account in "abcdefcg"))
    async with running(synchronizer):
        await synchronizer.wait(8, PATIENCE)
    tries = publisher.calls.count([*range(1, 9)])
    assert publisher.calls[:tries] == [[*range(1, 9)]] * (QUICK.retries + 1)
    assert publisher.calls[tries:] == [[1, 2, 3, 4], [1, 2], [3, 4], [3], [4], [5, 6, 8]]
    assert [each.position for each in await synchronizer.control("publisher").parked()] == [3, 7]


async def test_a_half_of_which_all_events_wait_is_parked_and_passed(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    publisher, control = await added(synchronizer, Publisher()), synchronizer.control("publisher")
    await write(store, *(deposited("a", amount) for amount in (13, 1, 1, 1)))
    async with running(synchronizer):
        await synchronizer.wait(4, PATIENCE)
        assert [(each.position, bool(each.cause)) for each in await control.parked()] == [
            (1, True), (2, False), (3, False), (4, False),
        ]  # fmt: skip
    assert publisher.calls[-2:] == [[1, 2], [1]]


async def test_a_batch_that_fails_for_a_while_is_tried_again_whole(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    class Shaky(Publisher):
        async def apply(self, events: Sequence[RecordedEvent[Deposited]]) -> None:
            self.mended = len(self.calls) > 1
            await super().apply(events)

    publisher = await added(synchronizer, Shaky())
    last = await write(store, deposited("a"), deposited("b", 13), deposited("a"))
    async with running(synchronizer):
        await synchronizer.wait(last, PATIENCE)
        assert publisher.calls == [[1, 2, 3]] * 3
        assert not await synchronizer.control("publisher").parked()


async def test_it_stands_still_while_what_it_talks_to_is_away(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    class Away(Publisher):
        is_away = True

        async def apply(self, events: Sequence[RecordedEvent[Deposited]]) -> None:
            if self.is_away:
                raise ConnectionRefusedError("no broker")
            await super().apply(events)

    publisher = await added(synchronizer, Away())
    last = await write(store, deposited("a"), deposited("b"))
    async with running(synchronizer):

        async def says_so() -> bool:
            [status] = await synchronizer.status()
            return any("no broker" in each for each in status.problems)

        await until(says_so)
        publisher.is_away = False  # type: ignore[attr-defined]
        await synchronizer.wait(last, PATIENCE)
        assert publisher.published == [("a", 1), ("b", 2)]
        assert not await synchronizer.control("publisher").parked()


async def test_it_stops_right_before_the_event_that_fails(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    class Stopping(Publisher):
        on_failure = "stop"

    publisher = await added(synchronizer, Stopping())
    await write(store, deposited("a"), deposited("b"), deposited("c", 13), deposited("d"))
    async with running(synchronizer):

        async def stands_still() -> bool:
            [status] = await synchronizer.status()
            return status.state is ProjectionState.FAULTED and status.position == 2

        await until(stands_still)
        assert publisher.of("d") == []
        publisher.mended = True
        await synchronizer.wait(4, PATIENCE)
        assert publisher.of("d") == [4]


async def test_a_batch_waits_for_more_events_for_a_while_and_no_longer_once_it_is_full(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    class Waiting(Publisher):
        batch_size = 3
        max_wait = timedelta(seconds=60)

    publisher = await added(synchronizer, Waiting())
    async with running(synchronizer):
        for _ in range(5):
            await write(store, deposited("a"))
            await asyncio.sleep(0.01)
        await synchronizer.wait(3, PATIENCE)
        assert publisher.calls == [[1, 2, 3]]
        await write(store, deposited("a"))
        await synchronizer.wait(6, PATIENCE)
    assert publisher.calls == [[1, 2, 3], [4, 5, 6]]


async def test_a_batch_that_does_not_fill_goes_after_the_wait(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    class Waiting(Publisher):
        max_wait = timedelta(milliseconds=50)

    publisher = await added(synchronizer, Waiting())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, deposited("a")), PATIENCE)
    assert publisher.calls == [[1]]


async def test_a_batch_may_take_as_long_as_its_time_limit_says(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    class Hanging(Publisher):
        time_limit = timedelta(milliseconds=30)

        async def apply(self, events: Sequence[RecordedEvent[Deposited]]) -> None:
            if any(each.event.account == "b" for each in events):
                await asyncio.sleep(PATIENCE)
            await super().apply(events)

    publisher = await added(synchronizer, Hanging())
    last = await write(store, deposited("a"), deposited("b"), deposited("c"))
    async with running(synchronizer):
        await synchronizer.wait(last, PATIENCE)
        [parked] = await synchronizer.control("publisher").parked()
    assert (parked.position, "TimeLimitError" in parked.cause) == (2, True)
    assert {position for _, position in publisher.published} == {1, 3}


async def test_segments_take_batches_of_their_own_keys(synchronizer: ReadModelSynchronizer, store: EventStore) -> None:
    publisher = await added(synchronizer, Publisher())
    await synchronizer.control("publisher").scale(3)
    last = await write(store, *(deposited("abcdef"[number % 6]) for number in range(60)))
    async with running(synchronizer):
        await synchronizer.wait(last, PATIENCE)
    assert {name: publisher.of(name) for name in "abcdef"} == {
        name: list(range(first, 61, 6)) for first, name in enumerate("abcdef", 1)
    }
    assert len(publisher.published) == 60


@pytest.mark.parametrize(
    ("attribute", "value", "refused"),
    [("batch_size", 0, "a whole number from 1"), ("max_wait", 2, r"write timedelta\(seconds=…\)")],
)
def test_what_cannot_be_batched_is_refused_when_it_is_added(
    synchronizer: ReadModelSynchronizer, attribute: str, value: Any, refused: str
) -> None:
    wrong = type("Wrong", (Publisher,), {attribute: value})
    with pytest.raises(InvalidProjectionError, match=refused):
        synchronizer.add(wrong())
