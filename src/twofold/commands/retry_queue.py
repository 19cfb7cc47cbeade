"""Who may try next, of those in this process who lost a race for the same thing."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from types import TracebackType
from typing import Self
from weakref import WeakValueDictionary


class Turns:
    """One queue for each contested thing: without it, of many who try again at once only one gets on each time."""

    def __init__(self) -> None:
        self._queues: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    def turn(self) -> Turn:
        """Return a place in the queues for one who has not lost a race yet."""
        return Turn(self)

    def queue(self, contested: Hashable) -> asyncio.Lock:
        """Return the queue for a thing; it is forgotten when nobody is in it."""
        return self._queues.setdefault(contested, asyncio.Lock())


class Turn:
    """The places of one who has lost races; given up at the end of a `with` block.

    Several places are always taken in the same order, so that no two ever wait for each other.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._contested: set[Hashable] = set()
        self._taken: list[asyncio.Lock] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._give_up()

    async def take(self, contested: Hashable) -> None:
        """Wait until all have had their turn who lost a race for the same things earlier."""
        if contested in self._contested:
            return
        self._give_up()
        self._contested.add(contested)
        for each in sorted(self._contested, key=repr):
            queue = self._turns.queue(each)
            await queue.acquire()
            self._taken.append(queue)

    def _give_up(self) -> None:
        while self._taken:
            self._taken.pop().release()
