"""How a log tells that it has grown."""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable

from twofold.messages.event_query import EventQuery
from twofold.ports.event_log import EventLog
from twofold.testing.samples import append_of, new_event, span

PATIENCE = 10.0
"""Seconds until a wake-up counts as lost; a good one takes milliseconds."""
PROMPT = 0.02
"""Seconds from an append to the one who waits for it in the same process, at the median."""


class FollowingPromises:
    """A reader that waits is woken by appends of all processes."""

    async def test_wait_returns_at_once_when_the_head_is_beyond(self, log: EventLog) -> None:
        await log.append(append_of(new_event(), new_event()))
        async with asyncio.timeout(PATIENCE):
            assert await log.wait(0, 10 * PATIENCE) == 2
            assert await log.wait(1, 10 * PATIENCE) == 2

    async def test_wait_times_out_with_the_unchanged_head(self, log: EventLog) -> None:
        assert await log.wait(0, 0.01) == 0
        await log.append(append_of(new_event()))
        assert await log.wait(1, 0.01) == 1
        assert await log.wait(1, 0) == 1

    async def test_wait_beyond_the_head_is_woken_only_by_what_reaches_it(self, log: EventLog) -> None:
        waiting = asyncio.create_task(log.wait(2, PATIENCE))
        for _ in range(2):
            await log.append(append_of(new_event()))
        assert await log.wait(2, 0.05) == 2
        assert not waiting.done()
        await log.append(append_of(new_event()))
        assert await waiting == 3

    async def test_wait_is_woken_by_an_append(self, log: EventLog) -> None:
        waiting = [asyncio.create_task(log.wait(0, PATIENCE)) for _ in range(50)]
        await asyncio.sleep(0)
        await log.append(append_of(new_event()))
        assert set(await asyncio.gather(*waiting)) == {1}

    async def test_waiting_is_woken_and_does_not_look_again_and_again(self, log: EventLog) -> None:
        delays = []
        for position in range(1, 22):
            waiting = asyncio.create_task(log.wait(position - 1, PATIENCE))
            await asyncio.sleep(0)
            await log.append(append_of(new_event()))
            appended = time.monotonic()
            await waiting
            delays.append(time.monotonic() - appended)
        assert statistics.median(delays) < PROMPT

    async def test_a_rejected_append_wakes_nobody(self, log: EventLog) -> None:
        await log.append(append_of(new_event("Note-1")))
        waiting = asyncio.create_task(log.wait(1, 0.05))
        await log.append(append_of(new_event("Note-1"), expected={"Note-1": 0}))
        assert await waiting == 1

    async def test_a_cancelled_wait_does_not_disturb_the_others(self, log: EventLog) -> None:
        cancelled, waiting = (asyncio.create_task(log.wait(0, PATIENCE)) for _ in range(2))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        await log.append(append_of(new_event()))
        assert await waiting == 1

    async def test_wait_and_read_in_turns_miss_nothing(self, log: EventLog) -> None:
        async def follow() -> list[int]:
            seen: list[int] = []
            while len(seen) < 100:
                await log.wait(len(seen), PATIENCE)
                seen += [row.position for row in await log.read(EventQuery.all(), after=len(seen), limit=7)]
                assert seen == list(range(1, len(seen) + 1))
            return seen

        async def write() -> None:
            for _ in range(25):
                await log.append(append_of(new_event(), new_event()))

        async with asyncio.timeout(3 * PATIENCE):
            seen, *_ = await asyncio.gather(follow(), write(), write())
        assert len(seen) == 100

    async def test_wait_is_woken_by_an_append_of_another_log_on_the_same_data(
        self, log: EventLog, another: Callable[[], EventLog]
    ) -> None:
        other = another()
        await other.open()
        try:
            for position in range(1, 6):
                waiting = asyncio.create_task(log.wait(position - 1, PATIENCE))
                await asyncio.sleep(0)
                assert span(await other.append(append_of(new_event()))) == (position, position)
                async with asyncio.timeout(PATIENCE):
                    assert await waiting == position
        finally:
            await other.close()
