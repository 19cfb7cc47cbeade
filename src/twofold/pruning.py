"""Removing what has become old: slice by slice, so that others write in between, and by itself in passes.

`make_passes` removes it by itself:

1. It rests: at first for a random part of the time between two passes, so that restarts make passes neither rarer nor
   more frequent, and processes that start together do not make theirs together.
2. It makes a pass, which goes through the slices by `paced`: it rests after each so long that passes take up no more
   than a share of the time.
3. If the pass fails, it is made again after a pause; where this role may not remove anything, after the next rest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta

from twofold.arguments import check_age
from twofold.errors import ReadOnlyStorageError
from twofold.options import Backoff
from twofold.tasks import JITTER, supervise

log = logging.getLogger(__name__)

Slices = AsyncGenerator[int]
"""Removes what is old of one slice after the other, and tells of each how much that was."""


async def make_passes(
    make_pass: Callable[[], Awaitable[int]], every: float, backoff: Backoff, *, what: str, off: str
) -> None:
    """Remove what becomes old, until cancelled. A failure is logged, and the pass made again after a pause.

    Args:
        make_pass: removes what is old now; returns how much that was.
        every: seconds from one pass to the next, about.
        backoff: the pauses after failures.
        what: is removed, for the log.
        off: the option by which nothing is removed.
    """

    async def work() -> None:
        while True:
            try:
                if count := await make_pass():
                    log.info("%d %s were removed", count, what)
            except ReadOnlyStorageError as error:  # a role that may not delete; trying again at once mends nothing
                log.warning("no %s are removed: %s; or write %s", what, error, off)
            await asyncio.sleep(every)

    await asyncio.sleep(every * JITTER.random())
    await supervise(f"the removal of {what}", work, backoff)


async def paced(slices: Slices, share: float) -> int:
    """Go through slices, busy for no more than a share of the time; return how much was found in all."""
    count, began = 0, time.monotonic()
    async with aclosing(slices):
        async for found in slices:
            count += found
            taken = time.monotonic() - began
            await asyncio.sleep(taken * (1 / share - 1))
            began = time.monotonic()
    return count


async def counted(slices: Slices, progress: Callable[[int], object]) -> int:
    """Go through slices at once; return how much was found in all, of which `progress` is told after each."""
    count = 0
    async with aclosing(slices):
        async for found in slices:
            count += found
            progress(count)
    return count


def checked_age(older_than: timedelta | None, kept: float) -> timedelta:
    """Return how old that is which is removed: by default what is older than `kept` seconds.

    Raises:
        TypeError, ValueError: it is no age.
    """
    age = timedelta(seconds=kept) if older_than is None else older_than
    check_age("older_than", age)
    return age
