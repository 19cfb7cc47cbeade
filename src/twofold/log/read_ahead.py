"""Reading in chunks: while one is at work, the next is on its way."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any

from twofold.log.pace import Pace
from twofold.messages.stored_event import StoredEvent

FIRST, CHUNK = 100, 250
"""Rows of the first chunk, which is soon there, and of the largest, all of which fits into a processor's cache.

No reader holds more than two chunks in memory; where events are large, they have fewer rows.
"""

Read = Callable[[StoredEvent | None, int], Coroutine[Any, Any, Sequence[StoredEvent]]]
"""Return so many rows that follow a row, or the first ones."""


async def read_ahead(read: Read, limit: int | None = None) -> AsyncGenerator[Sequence[StoredEvent]]:
    """Iterate over the rows that `read` returns, at most so many, in chunks that grow."""
    pace, remaining = Pace(FIRST, CHUNK), sys.maxsize if limit is None else limit
    size = min(pace.size, remaining)
    rows: Sequence[StoredEvent] = await read(None, size) if size > 0 else []
    while len(rows) == size < remaining:
        remaining -= size
        pace.adapt(rows)
        size = min(pace.size, remaining)
        following = asyncio.create_task(read(rows[-1], size))
        following.add_done_callback(_look)
        try:
            await asyncio.sleep(0)  # let it begin
            yield rows
            rows = await following
        finally:
            if following.cancel():  # it was not done: nobody wants it any more
                await asyncio.wait([following])
    yield rows


def _look(chunk: asyncio.Task[Sequence[StoredEvent]]) -> None:
    """Take notice of an error, in case nobody waits for it any more."""
    if not chunk.cancelled():
        chunk.exception()
