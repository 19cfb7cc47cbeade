from __future__ import annotations

import asyncio

from twofold.ports.watermark import Head


async def test_wait_returns_at_once_when_the_head_is_beyond() -> None:
    head = Head()
    head.advance(3)
    assert await head.wait(2, 60) == 3


async def test_wait_returns_the_unchanged_position_after_the_time_out() -> None:
    head = Head()
    head.advance(3)
    assert await head.wait(3, 0.001) == 3
    assert await head.wait(3, 0) == 3


async def test_all_waiters_are_woken_by_one_advance() -> None:
    head = Head()
    waiting = [asyncio.create_task(head.wait(0, 60)) for _ in range(10)]
    await asyncio.sleep(0)
    assert head.waiters == 10
    head.advance(1)
    assert await asyncio.gather(*waiting) == [1] * 10
    assert head.waiters == 0


async def test_a_waiter_sleeps_on_until_its_position_is_passed() -> None:
    head = Head()
    waiting = asyncio.create_task(head.wait(5, 60))
    for position in (3, 5):
        await asyncio.sleep(0)
        head.advance(position)
    await asyncio.sleep(0)
    assert not waiting.done()
    head.advance(6)
    assert await waiting == 6


async def test_the_head_never_moves_back() -> None:
    head = Head()
    head.advance(5)
    head.advance(2)
    assert head.position == 5


async def test_a_cancelled_waiter_is_no_longer_counted() -> None:
    head = Head()
    waiting = asyncio.create_task(head.wait(0, 60))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert head.waiters == 0
