"""Work on a connection in a thread; no other task may touch the connection before it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


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
