"""Tasks end when they are cancelled, even if something that they await swallows that."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from twofold.options import Backoff
from twofold.tasks import Supervisor, end, end_if_cancelled


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await asyncio.wait_for(end(task, patience=0.001), 10)
    assert (swallowed, task.done()) == (3, True)


async def test_a_loop_ends_where_it_looks_whether_it_was_cancelled() -> None:
    async def forgetful() -> None:
        while True:
            end_if_cancelled()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)

    task = asyncio.create_task(forgetful())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)


async def test_each_cause_is_told_with_its_traceback_once_and_then_in_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    supervisor = Supervisor("the work", Backoff(first=1.0, last=8.0))
    errors = [ValueError("one"), ValueError("one"), ValueError("one"), ValueError("two"), ValueError("one")]
    pauses = [await supervisor.tell(error) for error in errors]
    assert all(2 ** min(n, 3) / 2 <= pause <= 2 ** min(n, 3) for n, pause in enumerate(pauses))
    assert [bool(each.exc_info) for each in caplog.records] == [True, False, False, True, True]
    assert all(text in each.getMessage() for each, text in zip(caplog.records[1:3], ["one", "one"], strict=True))
    supervisor.went_well()
    await supervisor.tell(ValueError("one"))
    assert caplog.records[-1].exc_info
