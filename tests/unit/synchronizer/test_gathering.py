"""Events gather where many come one after the other, and none waits that a query waits for."""

from __future__ import annotations

import asyncio

from twofold.options import SynchronizerOptions
from twofold.ports.watermark import Watermark
from twofold.synchronizer.segments.gathering import Gathering

LONG = 600.0
"""Seconds that no test lasts."""
PATIENCE = 30.0


class Log:
    """A log with a watermark, whose head is asked as a runner asks."""

    def __init__(self, position: int) -> None:
        self.watermark = Watermark()
        self.watermark.advance(position)

    async def head(self, after: int, timeout: float) -> int:
        return await self.watermark.wait(after, timeout)


def gathering(log: Log, reached: Watermark, events: int) -> Gathering:
    return Gathering(log.head, reached, SynchronizerOptions(gathering=LONG, gathered=events))


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_an_event_that_comes_alone_does_not_wait() -> None:
    log = Log(1)
    async with asyncio.timeout(PATIENCE):
        assert await gathering(log, Watermark(), events=10**6)(0, 1.0) == 1


async def test_events_that_come_fast_wait_for_others_and_are_taken_together() -> None:
    log, reached = Log(1), Watermark()
    asked = asyncio.create_task(gathering(log, reached, events=0)(0, 1.0))
    await turns()
    log.watermark.advance(7)
    assert not asked.done()
    query = asyncio.create_task(reached.wait(0, LONG))
    assert await asyncio.wait_for(asked, PATIENCE) == 7
    query.cancel()


async def test_none_waits_while_a_query_does() -> None:
    log, reached = Log(1), Watermark()
    query = asyncio.create_task(reached.wait(0, LONG))
    await turns()
    async with asyncio.timeout(PATIENCE):
        assert await gathering(log, reached, events=0)(0, 1.0) == 1
    query.cancel()


async def test_without_an_event_the_time_that_was_asked_for_is_not_exceeded() -> None:
    async with asyncio.timeout(PATIENCE):
        assert await gathering(Log(5), Watermark(), events=0)(5, 0.0) == 5
