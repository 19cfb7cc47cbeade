"""What watchers of queries have in common: one look for equal queries, and none where nothing has moved.

1. A watcher is woken, since the read models of its query have passed a position.
2. It asks whether the events up to there concern the answer: whether one of them is of a type that the read models
   handle, and carries a tag on which the answer depends. Each event is read once for that, for all watchers.
3. If none does, it sleeps on. If one does, it looks; equal queries at the same moment share the look.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from typing import Any, NamedTuple

import msgspec

from twofold.messages.event import ANY_TYPE
from twofold.messages.event_query import EventQuery
from twofold.options import QueryOptions
from twofold.ports.event_log import EventLog
from twofold.ports.turns import Turns


class Scope(NamedTuple):
    """The events on which one answer of one read model depends."""

    types: Collection[str]
    """The stored names of the types that the read model handles."""
    tags: Mapping[str, Collection[str]]
    """By type, the tags of those that matter; events of a type that is not named matter whatever their tags are."""

    def holds(self, name: str, tags: Collection[str]) -> bool:
        """Return whether an event is one of them."""
        if name not in self.types and ANY_TYPE not in self.types:
            return False
        wanted = self.tags.get(name, ())
        return not wanted or not set(wanted).isdisjoint(tags)


class SharedLooks:
    """Spares watchers the looks that would show them nothing new.

    Args:
        log: the log that the read models follow.
        options: how much is kept, and for how long.
    """

    def __init__(self, log: EventLog, options: QueryOptions = QueryOptions()) -> None:  # noqa: B008 - it is immutable
        self._log = log
        self._size, self._kept = options.shared_events, options.shared_for
        self._events: deque[tuple[int, str, Collection[str]]] = deque()
        self._begin = self._covered = 0
        """The events behind the one position and up to the other are known."""
        self._reading = Turns()
        self._looks: dict[Hashable, tuple[int, asyncio.Task[Any]]] = {}

    async def concern(self, after: int, end: int, scopes: Collection[Scope]) -> bool:
        """Return whether an event behind one position and up to another may have changed an answer.

        Raises:
            StorageError: the database failed.
        """
        await self._cover(after, end)
        if not scopes or after < self._begin or end > self._covered:
            return True  # not all of them are known
        for position, name, tags in reversed(self._events):
            if position <= after:
                return False
            if position <= end and any(scope.holds(name, tags) for scope in scopes):
                return True
        return False

    async def ask(self, query: Hashable, end: int, look: Callable[[], Awaitable[Any]]) -> Any:
        """Return what a look gives; of equal queries that are woken at one moment, one looks for all.

        Args:
            query: the question; one that has no hash is always looked for.
            end: the position that the read models have passed.
            look: asks.
        """
        try:
            earlier = self._looks.get(query)
        except TypeError:
            return await look()
        if earlier is None or earlier[0] < end:
            task = asyncio.ensure_future(look())
            task.add_done_callback(lambda done: self._forget(query, done))
            earlier = self._looks[query] = (end, task)
        return await asyncio.shield(earlier[1])

    def _forget(self, query: Hashable, done: asyncio.Future[Any]) -> None:
        """Keep an answer until the other watchers of this moment have come for it."""
        if not done.cancelled():
            done.exception()  # the watchers have got it
        asyncio.get_running_loop().call_later(self._kept, self._drop, query, done)

    def _drop(self, query: Hashable, done: asyncio.Future[Any]) -> None:
        if query in self._looks and self._looks[query][1] is done:
            del self._looks[query]

    async def _cover(self, after: int, end: int) -> None:
        """Read the types and tags of the events up to a position, unless they are too many."""
        async with self._reading:
            if end > self._covered + self._size:
                self._begin = self._covered = max(after, end - self._size)
                self._events.clear()
            if end > self._covered:
                rows = await self._log.read(EventQuery.all(), after=self._covered, limit=self._size)
                for row in rows:
                    if len(self._events) == self._size:
                        self._begin = self._events.popleft()[0]
                    self._events.append((row.position, row.type, msgspec.json.decode(row.tags)))
                    self._covered = row.position
