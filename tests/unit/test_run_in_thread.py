"""A connection is nobody else's before the thread that works on it is done."""

from __future__ import annotations

import asyncio
import threading

import pytest

from twofold.tasks import run_in_thread


async def test_a_caller_that_is_cancelled_comes_back_only_when_the_thread_is_done() -> None:
    begun, go_on, done = threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        go_on.wait(10)
        done.append(True)

    calling = asyncio.create_task(run_in_thread(work))
    await asyncio.to_thread(begun.wait, 10)
    for _ in range(3):
        calling.cancel()
        await asyncio.sleep(0)
    assert not calling.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert done == [True]


async def test_it_returns_the_result_and_raises_what_the_work_raises() -> None:
    assert await run_in_thread(int, "12", base=16) == 18
    with pytest.raises(ValueError, match="invalid literal"):
        await run_in_thread(int, "no number")
