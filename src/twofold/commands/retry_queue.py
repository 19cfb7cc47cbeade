"""Queues for the commands of this process that conflict on the same thing.

Without them, of many commands that try again at the same moment, only one gets on each time.
"""

from __future__ import annotations

from collections.abc import Hashable
from types import TracebackType
from typing import Self
from weakref import WeakValueDictionary

from twofold.ports.turns import Turns


class RetryQueue:
    """One queue for each contested thing: a stream, or an item of a condition's query."""

    def __init__(self) -> None:
        self._queues: WeakValueDictionary[Hashable, Turns] = WeakValueDictionary()

    def place(self) -> RetryPlace:
        """Return the places of a command that has not conflicted yet: none."""
        return RetryPlace(self)

    def of(self, contested: Hashable) -> Turns:
        """Return the queue for a thing; it is forgotten when no command is in it."""
        return self._queues.setdefault(contested, Turns())


class RetryPlace:
    """The places of one command in the queues; given up at the end of a `with` block.

    Several places are always taken in the same order, so that no two commands ever wait for each other.
    """

    def __init__(self, queue: RetryQueue) -> None:
        self._queue = queue
        self._contested: set[Hashable] = set()
        self._taken: list[Turns] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._give_up(error)

    async def take(self, contested: Hashable) -> None:
        """Wait until the commands that conflicted on the same things earlier are done.

        Raises:
            StorageUnavailableError: the database did not answer one of them.
        """
        if contested in self._contested:
            return
        self._give_up()
        self._contested.add(contested)
        for each in sorted(self._contested, key=repr):
            turns = self._queue.of(each)
            await turns.begin()
            self._taken.append(turns)

    def _give_up(self, error: BaseException | None = None) -> None:
        while self._taken:
            self._taken.pop().end(error)
