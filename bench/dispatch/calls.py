"""Measures one call, the same for all contenders. Needs nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

from bench.worker import serve

BATCH = 200
"""Calls between two looks at the clock. The fastest batch counts: what else the machine does only makes one slower."""

Call = Callable[[int], Awaitable[Any]]
"""Send a command that holds a number."""
Opened = Callable[[], AbstractAsyncContextManager[Call]]


class Dispatching:
    """Answers with the microseconds of one call."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    def dispatch(self, seconds: float) -> float:
        """Return the microseconds of one call, of the fastest batch within the time."""
        return asyncio.run(self._fastest(seconds))

    async def _fastest(self, seconds: float) -> float:
        async with self._opened() as call:
            assert await call(41) == 42
            deadline, fastest = time.perf_counter() + seconds, float("inf")
            while time.perf_counter() < deadline:
                fastest = min(fastest, await _batch(call))
        return fastest / BATCH * 1_000_000


async def _batch(call: Call) -> float:
    began = time.perf_counter()
    for number in range(BATCH):
        await call(number)
    return time.perf_counter() - began


@contextmanager
def _dispatching(opened: Opened) -> Iterator[Dispatching]:
    yield Dispatching(opened)


def main(opened: Opened) -> None:
    """Answer the benchmark's requests."""
    serve(_dispatching(opened))


def ready(call: Call) -> Opened:
    """Return what opens a bus that needs no opening."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Call]:
        yield call

    return opened
