"""Batches of the log, with the next one on its way while the present one is worked on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
import pytest_asyncio
from tests.accounts import Deposited, Opened
from tests.recording_log import RecordingLog
from tests.synchronizing import deposited, opened, write

from twofold import EventQuery, EventStore
from twofold.engines.memory import MemoryEventLog
from twofold.errors import StorageUnavailableError
from twofold.log.chunks import EventBatches
from twofold.log.codec.unknown import decoder
from twofold.messages.mark import Mark
from twofold.options import LogOptions
from twofold.ports.skips import Skips


@pytest_asyncio.fixture
async def log() -> AsyncIterator[RecordingLog]:
    """Return a log with events 1 and 8, and six of another type between them."""
    log = RecordingLog(MemoryEventLog())
    await log.open()
    await write(EventStore(log), opened("a"), *(deposited("a") for _ in range(6)), opened("b"))
    yield log
    await log.close()


def batches(log: RecordingLog, *types: type, size: int = 3, options: LogOptions | None = None) -> EventBatches:
    store = EventStore(log)
    store.events.register(Opened, Deposited)
    return EventBatches(
        log,
        decoder(store.events),
        EventQuery.of(*(types or (Opened, Deposited))),
        size,
        options or LogOptions(first_batch=100),
    )


async def test_batches_follow_each_other_up_to_the_end_that_was_asked_for(log: RecordingLog) -> None:
    reader, after, found = batches(log), Mark(0), []
    while after.position < 7:
        batch = await reader.read(after, 7)
        found.append([each.position for each in batch.events])
        after = batch.mark
    assert found == [[1, 2, 3], [4, 5, 6], [7]]
    assert log.calls["scan"] == 3, "there is nothing to be read ahead behind the end"


async def test_batches_grow_while_events_are_small_and_shrink_where_they_are_large(log: RecordingLog) -> None:
    options = LogOptions(first_batch=1, chunk_bytes=500)
    await write(EventStore(log), *(opened("a" * 200) for _ in range(6)))
    reader, after, found = batches(log, size=4, options=options), Mark(0), []
    while after.position < 14:
        batch = await reader.read(after, 14)
        found.append(len(batch.events))
        after = batch.mark
    assert found == [1, 2, 4, 4, 2, 1]


async def test_a_batch_reaches_over_what_is_not_selected(log: RecordingLog) -> None:
    batch = await batches(log, Opened).read(Mark(0), 8)
    assert ([each.position for each in batch.events], batch.position) == ([1, 8], 8)


async def test_events_that_are_skipped_are_left_out_and_no_others_that_stand_at_their_positions(
    log: RecordingLog, caplog: pytest.LogCaptureFixture
) -> None:
    second, third = await log.mark(2), await log.mark(3)
    assert second
    assert third
    batch = await batches(log).read(Mark(0), 3, Skips("accounts", [(2, second.text, ""), (3, second.text, "")]))
    assert ([each.position for each in batch.events], batch.position) == ([1, 3], 3)
    [told] = caplog.messages
    assert "accounts does not skip event 3" in told
    assert str(UUID(bytes=third.event_id)) in told


async def test_the_next_batch_is_read_while_the_present_one_is_worked_on(log: RecordingLog) -> None:
    reader = batches(log)
    await reader.read(Mark(0), 8)
    await log.asked("scan", 2)
    await reader.read(Mark(3), 8)
    await log.asked("scan", 3)
    await reader.forget()


async def test_what_was_read_ahead_is_dropped_by_who_goes_on_elsewhere(log: RecordingLog) -> None:
    reader = batches(log)
    await reader.read(Mark(0), 8)
    batch = await reader.read(Mark(1), 8)
    assert [each.position for each in batch.events] == [2, 3, 4]
    await reader.forget()
    batch = await reader.read(Mark(0), 3)
    assert [each.position for each in batch.events] == [1, 2, 3]


async def test_a_failure_ahead_is_told_when_that_batch_is_asked_for_and_not_the_time_after(log: RecordingLog) -> None:
    reader = batches(log)
    await reader.read(Mark(0), 8)
    log.away = True
    await log.asked("scan", 2)
    with pytest.raises(StorageUnavailableError):
        await reader.read(Mark(3), 8)
    log.away = False
    assert [each.position for each in (await reader.read(Mark(3), 8)).events] == [4, 5, 6]
    await reader.forget()


async def test_nothing_is_read_behind_an_event_that_cannot_be_read(log: RecordingLog) -> None:
    reader = EventBatches(log, decoder(EventStore(log).events), EventQuery.of(Opened, Deposited), 3)
    batch = await reader.read(Mark(0), 8)
    assert (batch.events, batch.position, type(batch.failure).__name__) == ([], 0, "UnknownEventTypeError")
    assert log.calls["scan"] == 1
