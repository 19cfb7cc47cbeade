"""Whether the work on a segment goes on: its worker renews the lease only then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from twofold.errors import TimeLimitError

T = TypeVar("T")

GRAINS = 100
"""Parts into which a time limit is divided; it may be longer by one of them. More: a step sets its timer more often."""


class Movement:
    """Notes that the work goes on, and gives up a part of it that takes too long.

    Args:
        name: of the projection.
        time_limit: seconds that one part of the work may take.
    """

    def __init__(self, name: str, time_limit: float) -> None:
        self._name = name
        self._time_limit = time_limit
        self._has_moved = True
        self._may_take_until = 0.0
        self._limit: asyncio.Timeout | None = None
        self._told_until = 0.0

    def has_moved(self) -> bool:
        """Return whether the work went on since this was asked last, or does what it may still take time for."""
        moved, self._has_moved = self._has_moved, False
        return moved or time.monotonic() < self._may_take_until

    def note(self, may_take: float = 0.0) -> None:
        """Note that the work goes on, and for how many seconds what comes next may take."""
        self._has_moved, self._may_take_until = True, time.monotonic() + may_take

    def note_within_limit(self, may_take: float = 0.0) -> None:
        """Note, within a step, that it goes on: its time limit begins again, and a part of it may take longer.

        A step of fast code says so for each event: the timer is set again only now and then, and a little later, so
        that it never fires before the limit.
        """
        self._has_moved, now = True, time.monotonic()
        if now < self._told_until and not may_take:
            return
        grain = self._time_limit / GRAINS
        limit = self._time_limit + may_take + grain
        self._told_until = 0.0 if may_take else now + grain
        self._may_take_until = now + limit
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time() + limit)

    async def within_limit(self, work: Awaitable[T], what: str) -> T:
        """Await what may take up to the time limit; until then the lease is renewed.

        Raises:
            TimeLimitError: it took longer, and was cancelled.
        """
        try:
            async with asyncio.timeout(None) as self._limit:
                self._told_until = 0.0
                self.note_within_limit()
                return await work
        except TimeoutError as error:
            if self._limit is None or not self._limit.expired():
                raise
            remedy = "raise `SynchronizerOptions.time_limit`, or find out what it waits for"
            raise TimeLimitError(self._name, what, self._time_limit, remedy) from error
        finally:
            self.note()

    async def rest(self, seconds: float) -> None:
        """Pause, and keep the lease."""
        self.note(seconds)
        await asyncio.sleep(seconds)
