"""Work of the event loop in slices: code that is not asynchronous and may take long for each item.

1. A slice is as many items as take about `SLICE` seconds, by what the last ones took; the first is one item.
2. After each slice that took its time, other tasks run for `PAUSE` seconds.
3. Where the code is quick, slices grow fourfold until one holds everything: then this costs two looks at the clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

SLICE = 0.025
"""Seconds of work before other tasks may run. A higher value keeps them waiting, a lower one slows the work down."""
PAUSE = 0.002
"""Seconds that other tasks get between two slices. A higher value slows the work down, 0 gives each task one step."""
GROWTH = 4
"""How much larger a slice may be than the one before. Higher, and code that becomes slow holds the loop up once for
longer; lower, and quick code gets there in more steps."""


class Slices(Generic[T, R]):
    """Does work in slices, whose size it keeps in mind from one call to the next.

    Args:
        work: makes a result of each of some items; it may make more or fewer.
    """

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R]]) -> None:
        self._work = work
        self._size = 1

    async def of(self, items: Sequence[T]) -> Sequence[R]:
        """Return what the work makes of items, in order.

        Raises:
            Exception: whatever the work raises.
        """
        if len(items) <= self._size:
            return await self._slice(items)
        made: list[R] = []
        first = 0
        while first < len(items):
            part = items[first : first + self._size]
            made += await self._slice(part)
            first += len(part)
        return made

    async def _slice(self, items: Sequence[T]) -> Sequence[R]:
        began = time.perf_counter()
        made = self._work(items)
        taken = time.perf_counter() - began
        if items:
            fitting = int(len(items) * SLICE / max(taken, 1e-9))
            self._size = max(1, min(GROWTH * max(len(items), self._size), fitting))
        if taken > SLICE / 2:
            await asyncio.sleep(PAUSE)
        return made
