"""Work on a connection in a thread; no other task may touch the connection before it is done."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import ParamSpec, TypeVar

try:
    from resource import RUSAGE_THREAD, getrusage
except ImportError:  # the platform does not count for each thread
    getrusage = None  # type: ignore[assignment]

P = ParamSpec("P")
T = TypeVar("T")


def times_waited() -> float:
    """Return how often this thread has waited for something, such as the disk; NaN where the platform does not count.

    A thread that is kept from the processor, by other programs or by the limits of a container, waits for nothing: what
    it does takes long, and would take as long in any other thread. NaN differs from itself, as a count that has grown.
    """
    return math.nan if getrusage is None else getrusage(RUSAGE_THREAD).ru_nvcsw


async def run_in_thread(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Run work in a thread and return its result. A caller who is cancelled comes back only when it is done.

    Otherwise the connection could be rolled back or closed while the thread still uses it, which SQLite does not
    survive.

    Raises:
        Exception: whatever the work raises.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **named))
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        running.exception()  # it is seen
        raise cancelled
    return running.result()
