from __future__ import annotations

import asyncio

from twofold.ports.watermark import Watermark


async def test_wait_returns_at_once_when_the_head_is_beyond() -> None:
    watermark = Watermark()
    watermark.advance(3)
    assert await watermark.wait(2, 60) == 3


async def test_wait_returns_the_unchanged_position_after_the_time_out() -> None:
    watermark = Watermark()
    watermark.advance(3)
    assert await watermark.wait(3, 0.001) == 3
    assert await watermark.wait(3, 0) == 3


async def test_all_waiters_are_woken_by_one_advance() -> None:
    watermark = Watermark()
    waiting = [asyncio.create_task(watermark.wait(0, 60)) for _ in range(10)]
    await asyncio.sleep(0)
    assert watermark.waiters == 10
    watermark.advance(1)
    assert await asyncio.gather(*waiting) == [1] * 10
    assert watermark.waiters == 0


async def test_a_waiter_sleeps_on_until_its_position_is_passed() -> None:
    watermark = Watermark()
    waiting = asyncio.create_task(watermark.wait(5, 60))
    for position in (3, 5):
        await asyncio.sleep(0)
        watermark.advance(position)
    await asyncio.sleep(0)
    assert not waiting.done()
    watermark.advance(6)
    assert await waiting == 6


async def test_the_head_never_moves_back() -> None:
    watermark = Watermark()
    watermark.advance(5)
    watermark.advance(2)
    assert watermark.position == 5


async def test_a_cancelled_waiter_is_no_longer_counted() -> None:
    watermark = Watermark()
    waiting = asyncio.create_task(watermark.wait(0, 60))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert watermark.waiters == 0


async def test_it_goes_back_when_the_database_shows_less_than_was_known_before_it_was_asked() -> None:
    watermark = Watermark()
    watermark.advance(100)
    watermark.read(60, known=100)
    assert (watermark.position, watermark.times_set_back) == (60, 1)
    watermark.read(61, known=60)
    assert (watermark.position, watermark.times_set_back) == (61, 1)


async def test_an_answer_that_was_overtaken_by_an_append_proves_nothing() -> None:
    watermark = Watermark()
    watermark.advance(100)
    watermark.advance(101)
    watermark.read(100, known=100)
    assert (watermark.position, watermark.times_set_back) == (101, 0)


async def test_a_task_that_waits_goes_on_at_once_when_it_goes_back() -> None:
    watermark = Watermark()
    watermark.advance(100)
    waiting = asyncio.create_task(watermark.wait(100, 60))
    await asyncio.sleep(0)
    watermark.read(60, known=100)
    async with asyncio.timeout(30):
        assert await waiting == 60
    assert watermark.waiters == 0
