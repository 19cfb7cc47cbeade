"""What watchers of queries have in common: one task that waits for changes, and one look for equal queries.

1. A watcher says on which events its answer depends, and up to which position it shows them.
2. The `Changes` of its read models wait until those have passed a position, and read the new events once.
3. They wake the watchers whose answers an event concerns: it is of a type that the read models handle, and carries a
   tag on which the answer depends. All others sleep on, and cost nothing.
4. A watcher that is woken looks; equal queries at the same moment share the look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any

from twofold.options import QueryOptions
from twofold.ports.event_log import EventLog
from twofold.queries.changes import Changes, Watcher
from twofold.queries.consistency import Asking, Progress


class Follower:
    """Waits for changes of one watcher's answers; to be closed.

    Args:
        changes_of: returns what tells of the changes of some read models.
    """

    def __init__(self, changes_of: Callable[[Mapping[str, Progress]], Changes]) -> None:
        self._changes_of = changes_of
        self._asking: Asking | None = None
        self._joined: tuple[Changes, Watcher] | None = None

    async def news(self, asking: Asking, after: int, patience: float) -> int | None:
        """Wait until something may have changed an answer; return up to which position it is to be looked for.

        Args:
            asking: what was answered; the same one again as long as nothing has changed.
            after: the position that the answer shows.
            patience: seconds; None is returned if nothing has changed then.

        Raises:
            StorageError: a database failed.
        """
        if self._joined is None or asking is not self._asking:
            self.close()
            changes = self._changes_of(asking.asked)
            self._asking, self._joined = asking, (changes, changes.join(asking.scopes, after))
        changes, watcher = self._joined
        end = await changes.wait(watcher, patience)
        if end is not None:
            self.close()  # the next answer may depend on other events
        return end

    def close(self) -> None:
        """Wait for no more; may be repeated."""
        if self._joined is not None:
            changes, watcher = self._joined
            self._joined = None
            changes.leave(watcher)


class SharedLooks:
    """Spares watchers the looks that would show them nothing new.

    Args:
        log: the log that the read models follow.
        options: how much is kept, for how long, and how often the read models are looked at.
    """

    def __init__(self, log: EventLog, options: QueryOptions = QueryOptions()) -> None:  # noqa: B008 - it is immutable
        self._log = log
        self._options = options
        self._changes: dict[frozenset[str], Changes] = {}
        self._looks: dict[Hashable, tuple[int, asyncio.Task[Any]]] = {}

    def follower(self) -> Follower:
        """Return what waits for the changes of one watcher's answers."""
        return Follower(self.changes_of)

    def changes_of(self, reads: Mapping[str, Progress]) -> Changes:
        """Return what tells of the changes of some read models."""
        names = frozenset(reads)
        if names not in self._changes:
            self._changes[names] = Changes(self._log, list(reads.values()), self._options)
        return self._changes[names]

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
        asyncio.get_running_loop().call_later(self._options.shared_for, self._drop, query, done)

    def _drop(self, query: Hashable, done: asyncio.Future[Any]) -> None:
        if query in self._looks and self._looks[query][1] is done:
            del self._looks[query]
