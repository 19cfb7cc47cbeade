"""Work of the event loop in slices: code that is not asynchronous and may take long for each item.

1. A slice is as many items as take about as long as `FoldOptions.slice`, by what the last ones took; the first is one.
2. After each slice that took its time, other tasks run for `FoldOptions.pause` seconds.
3. Where the code is quick, slices grow fourfold until one holds everything: then this costs two looks at the clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from twofold.options import FoldOptions

T = TypeVar("T")
R = TypeVar("R")


class Slices(Generic[T, R]):
    """Does work in slices, whose size it keeps in mind from one call to the next.

    Args:
        work: makes a result of each of some items; it may make more or fewer.
        options: how long a slice and the pause behind it are.
    """

    def __init__(
        self,
        work: Callable[[Sequence[T]], Sequence[R]],
        options: FoldOptions = FoldOptions(),  # noqa: B008 - it is immutable
    ) -> None:
        self._work = work
        self._slice_time, self._pause = options.slice, options.pause
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
            fitting = int(len(items) * self._slice_time / max(taken, 1e-9))
            self._size = max(1, min(4 * max(len(items), self._size), fitting))
        if taken > self._slice_time / 2:
            await asyncio.sleep(self._pause)
        return made
