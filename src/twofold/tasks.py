"""Ending tasks for certain: `asyncio.wait_for` of Python 3.11, which drivers use, may swallow a cancellation.

See https://github.com/python/cpython/issues/86296.
"""

from __future__ import annotations

import asyncio
from random import SystemRandom
from typing import Any

JITTER = SystemRandom()
"""Random numbers that leave the `random` module alone: an application may have seeded that.

They differ from process to process, also if one was forked from the other.
"""

PATIENCE = 0.5
"""Seconds after which a task that goes on is cancelled again."""


def end_if_cancelled() -> None:
    """Raise `CancelledError` if the current task was cancelled, and whatever it awaited has swallowed that."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they have ended; how they ended is nobody's business."""
    going_on = set(tasks)
    while going_on:
        for task in going_on:
            task.cancel()
        _, going_on = await asyncio.wait(going_on, timeout=PATIENCE)
    await asyncio.gather(*tasks, return_exceptions=True)
