"""Catch up with the log, then follow it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from tests.accounts import Deposited, Opened
from tests.child_processes import CONTEXT
from tests.recording_log import RecordingLog

from twofold import ANY, Batch, EventQuery, EventStore, Subscription, open_event_store
from twofold.errors import HistoryChangedError, StorageError, UnknownEventTypeError
from twofold.messages.ids import uuid7
from twofold.options import LogOptions

PATIENCE = 30.0


@pytest_asyncio.fixture
async def log(url: str) -> AsyncIterator[RecordingLog]:
    log = RecordingLog(open_event_store(url).log)
    await log.open()
    yield log
    await log.close()


@pytest.fixture
def store(log: RecordingLog) -> EventStore:
    store = EventStore(log)
    store.events.register(Opened, Deposited)
    return store


async def write(store: EventStore, count: int, account: str = "a") -> None:
    events = [Opened(account=account) for _ in range(count)]
    await store.append_events(f"Account-{account}", "Account", events, expected_version=ANY)


async def following(subscribed: Subscription) -> Batch:
    async with asyncio.timeout(PATIENCE):
        return await anext(subscribed)


def places(batch: Batch) -> list[int]:
    return [recorded.position for recorded in batch.events]


async def test_it_catches_up_in_batches_and_then_follows(store: EventStore) -> None:
    await write(store, 5)
    subscribed = store.subscribe(batch_size=2)
    assert [places(await following(subscribed)) for _ in range(3)] == [[1, 2], [3, 4], [5]]
    waiting = asyncio.create_task(following(subscribed))
    await asyncio.sleep(0)
    await write(store, 2)
    batch = await waiting
    assert (places(batch), batch.position, subscribed.position) == ([6, 7], 7, 7)


async def test_batches_grow_while_events_are_small_and_shrink_where_they_are_large(log: RecordingLog) -> None:
    store = EventStore(log, options=LogOptions(first_chunk=1, chunk_bytes=500))
    store.events.register(Opened)
    await write(store, 11)
    await write(store, 6, "a" * 200)
    subscribed = store.subscribe(batch_size=4)
    assert [len((await following(subscribed)).events) for _ in range(6)] == [1, 2, 4, 4, 4, 2]


async def test_it_goes_on_after_a_position(store: EventStore) -> None:
    await write(store, 5)
    assert places(await following(store.subscribe(after=3))) == [4, 5]


async def test_a_position_beyond_the_head_is_of_another_history(store: EventStore) -> None:
    await write(store, 1)
    with pytest.raises(HistoryChangedError, match=r"the subscription has read up to event 2.* it ends at 1"):
        await following(store.subscribe(after=2))


async def test_it_goes_on_after_a_mark_and_refuses_that_of_another_history(store: EventStore) -> None:
    await write(store, 5)
    mark = (await following(store.subscribe(batch_size=3))).mark
    assert mark.position == 3
    assert places(await following(store.subscribe(after=mark))) == [4, 5]
    other = mark._replace(event_id=uuid7().bytes)
    with pytest.raises(HistoryChangedError, match=r"event 3 \(.*\), and the log has another history") as refused:
        await following(store.subscribe(after=other))
    assert (refused.value.read, refused.value.found, refused.value.head) == (other, mark, 5)


async def test_one_stream_goes_on_after_a_mark_and_refuses_that_of_another_history(store: EventStore) -> None:
    for account in "abab":
        await write(store, 2, account)
    mark = (await following(store.subscribe(stream_id="Account-a", batch_size=1))).mark
    assert places(await following(store.subscribe(stream_id="Account-a", after=mark))) == [2, 5, 6]
    with pytest.raises(HistoryChangedError):
        await following(store.subscribe(stream_id="Account-a", after=mark._replace(event_id=uuid7().bytes)))


async def test_a_filter_moves_the_position_over_what_it_skips(store: EventStore) -> None:
    await write(store, 9)
    subscribed = store.subscribe(EventQuery.of(Deposited), batch_size=2)
    batch = await following(subscribed)
    assert (batch.events, batch.position) == ([], 9)
    await store.append([Opened(account="b"), Deposited(account="b", amount=1), Opened(account="b")])  # type: ignore[arg-type]
    batch = await following(subscribed)
    assert (places(batch), batch.position) == ([11], 12)


async def test_tags_filter_as_types_do(store: EventStore) -> None:
    for account in "abab":
        await write(store, 1, account)
    assert places(await following(store.subscribe(EventQuery.of(tags=["account:b"])))) == [2, 4]


async def test_it_follows_one_stream(store: EventStore) -> None:
    for account in "abba":
        await write(store, 2, account)
    subscribed = store.subscribe(stream_id="Account-b", batch_size=3)
    batches = [await following(subscribed) for _ in range(3)]
    assert [places(batch) for batch in batches] == [[3, 4, 5], [6], []]
    assert batches[-1].position == 8


async def test_it_goes_on_with_one_stream_after_a_position_and_reads_the_beginning_once(
    store: EventStore, log: RecordingLog
) -> None:
    for account in "abba":
        await write(store, 20, account)
    subscribed = store.subscribe(stream_id="Account-a", after=65, batch_size=10)
    assert [places(await following(subscribed)) for _ in range(2)] == [[*range(66, 71)], [*range(71, 81)]]
    log.calls.clear()
    for _ in range(3):
        await write(store, 1, "b")
        assert (await following(subscribed)).events == []
    assert log.calls["read_stream"] == 3


async def test_a_slow_consumer_is_read_ahead_for_by_nothing(store: EventStore, log: RecordingLog) -> None:
    subscribed = store.subscribe(batch_size=10)
    for _ in range(20):
        await write(store, 10)
    assert len((await following(subscribed)).events) == 10
    reads = log.reads
    for _ in range(20):
        await write(store, 10)
    assert log.reads == reads == 1


async def test_many_subscribers_see_the_same_events_in_the_same_order(store: EventStore) -> None:
    async def follow() -> list[int]:
        seen: list[int] = []
        async for batch in store.subscribe(batch_size=7):
            seen += places(batch)
            if batch.position == 100:
                break
        return seen

    async with asyncio.timeout(PATIENCE):
        *seen, _, _ = await asyncio.gather(
            *(follow() for _ in range(5)),
            *(asyncio.gather(*(write(store, 2, account) for _ in range(25))) for account in "ab"),
        )
    assert all(each == [*range(1, 101)] for each in seen)


def append_elsewhere(url: str, count: int) -> None:
    """Run in a process of its own."""

    async def run() -> None:
        async with open_event_store(url) as store:
            for _ in range(count):
                await write(store, 1)

    asyncio.run(run())


async def test_appends_of_another_process_wake_it(url: str, store: EventStore) -> None:
    process = CONTEXT.Process(target=append_elsewhere, args=(url, 20))
    subscribed = store.subscribe()
    seen: list[int] = []
    process.start()
    while len(seen) < 20:
        seen += places(await following(subscribed))
    await asyncio.to_thread(process.join, PATIENCE)
    assert seen == [*range(1, 21)]


async def test_it_waits_while_the_database_is_away_and_goes_on_where_it_was(
    log: RecordingLog, caplog: pytest.LogCaptureFixture
) -> None:
    store = EventStore(log, options=LogOptions(first_pause=0.001, last_pause=0.001))
    store.events.register(Opened)
    await write(store, 3)
    subscribed = store.subscribe(batch_size=2)
    assert places(await following(subscribed)) == [1, 2]
    log.away = True
    waiting = asyncio.create_task(following(subscribed))
    before = log.calls["scan"]
    async with asyncio.timeout(PATIENCE):
        await log.asked("scan", before + 5)
    assert "subscription at 2 waits for the database" in caplog.text
    log.away = False
    assert places(await waiting) == [3]


async def test_an_event_that_cannot_be_read_stops_it_and_it_stays_before_it(store: EventStore, url: str) -> None:
    await write(store, 1)
    async with open_event_store(url) as reader:
        subscribed = reader.subscribe()
        for _ in range(2):
            with pytest.raises(UnknownEventTypeError):
                await following(subscribed)
        assert subscribed.position == 0
        reader.events.register(Opened)
        assert places(await following(subscribed)) == [1]


async def test_the_events_before_one_that_cannot_be_read_are_handed_out(store: EventStore, url: str) -> None:
    await write(store, 3)
    await store.append([Deposited(account="a", amount=Decimal(1)), Opened(account="b")])
    async with open_event_store(url) as reader:
        reader.events.register(Opened)
        subscribed = reader.subscribe()
        batch = await following(subscribed)
        assert (places(batch), batch.mark) == ([1, 2, 3], await reader.log.mark(3))
        for _ in range(2):
            with pytest.raises(UnknownEventTypeError):
                await following(subscribed)
        reader.events.register(Deposited)
        assert places(await following(subscribed)) == [4, 5]


async def test_an_error_that_trying_again_does_not_mend_comes_through(store: EventStore, log: RecordingLog) -> None:
    async def fail(after: int, timeout: float) -> int:
        raise StorageError("broken")

    log.wait = fail  # type: ignore[method-assign]
    with pytest.raises(StorageError, match="broken"):
        await following(store.subscribe())


async def test_a_cancelled_wait_loses_nothing(store: EventStore) -> None:
    subscribed = store.subscribe()
    waiting: asyncio.Task[Any] = asyncio.create_task(following(subscribed))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await write(store, 2)
    assert places(await following(subscribed)) == [1, 2]
