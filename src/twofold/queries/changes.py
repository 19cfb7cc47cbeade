"""Changes of some read models: one task waits for them on behalf of all watchers, and wakes those that they concern.

1. A watcher joins: it is listed under the types and tags of the events on which its answer depends.
2. The task runs while a watcher is listed. It stands at a position: the watchers have been told of all events up to
   there. An event wakes the watchers that are listed under its type and one of its tags; the others cost nothing.
3. All are woken where no event tells what has changed: another generation answers, the read models have gone back, or
   there are more new events than are kept.
4. A watcher that has waited in vain stays listed and waits again: one timer ends the waits of many.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence, Set

import msgspec
from msgspec.structs import replace

from twofold.messages.context import context, current_metadata
from twofold.messages.event_query import EventQuery
from twofold.options import QueryOptions
from twofold.ports.event_log import EventLog
from twofold.ports.held_back import OTHERS
from twofold.queries.beats import Beats, Wait
from twofold.queries.consistency import Progress
from twofold.queries.scope import Place, Scope, places_of

_decode_tags = msgspec.json.Decoder(tuple[str, ...]).decode
_Event = tuple[int, str, Sequence[str]]
"""Position, type and tags."""


class Watcher:
    """One answer that is followed, and what was found of it while its owner did not wait."""

    __slots__ = ("after", "failure", "found", "places", "wait")

    def __init__(self, places: Set[Place], after: int) -> None:
        self.places = places
        self.after = after
        """The position that the answer shows."""
        self.found: int | None = None
        """The position that was passed when something concerned the answer."""
        self.failure: Exception | None = None
        self.wait: Wait | None = None

    def tell(self, position: int) -> None:
        """Tell that something up to a position concerns the answer."""
        self.found = position
        if self.wait is not None and not self.wait.done():
            self.wait.set_result(position)

    def fail(self, error: Exception) -> None:
        """Tell that the changes cannot be followed."""
        self.failure = error
        if self.wait is not None and not self.wait.done():
            self.wait.set_result(None)


class Changes:
    """Wakes watchers of some read models.

    Args:
        log: the log that the read models follow.
        reads: the read models.
        options: how often the read models are looked at, how long changes are gathered, and how many events are kept.
    """

    def __init__(self, log: EventLog, reads: Collection[Progress], options: QueryOptions) -> None:
        self._log = log
        self._reads = reads
        self._options = options
        self._events: deque[_Event] = deque(maxlen=options.shared_events)
        self._size = options.shared_events
        self._position = 0
        """The watchers were told of what the read models show up to here."""
        self._known_from = 0
        """The events behind this position, and up to `_position`, are kept."""
        self._generations: Sequence[int] = ()
        self._watchers: dict[Place, dict[Watcher, None]] = {}
        """The watchers of events of a type with a tag, in the order in which they joined."""
        self._joined = 0
        self._beats = Beats(options.beats)
        self._task: asyncio.Task[None] | None = None

    def join(self, scopes: Collection[Scope], after: int) -> Watcher:
        """List a watcher until it leaves.

        Args:
            scopes: on which events its answer depends.
            after: the position that the answer shows.
        """
        watcher = Watcher({place for scope in scopes for place in scope.places()}, after)
        if self._task is None or self._task.done():
            self._begin(after)
        if self._has_missed(watcher.places, after):
            watcher.tell(self._position)
        for place in watcher.places:
            self._watchers.setdefault(place, {})[watcher] = None
        self._joined += 1
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """List a watcher no longer."""
        self._joined -= 1
        for place in watcher.places:
            watchers = self._watchers[place]
            del watchers[watcher]
            if not watchers:
                del self._watchers[place]

    async def wait(self, watcher: Watcher, patience: float) -> int | None:
        """Wait until an event behind its answer has concerned a watcher; return the position that was passed then.

        None is returned after about `patience` seconds, never later; see `Beats`.

        Raises:
            StorageError: a database failed.
        """
        if watcher.found is None and watcher.failure is None:
            wait = watcher.wait = asyncio.get_running_loop().create_future()
            ending = self._beats.add(wait, patience)
            try:
                await wait
            finally:
                ending.discard(wait)
                watcher.wait = None
        if watcher.failure is not None:
            raise watcher.failure
        return watcher.found

    def _has_missed(self, places: Set[Place], after: int) -> bool:
        """Return whether the watchers were told of something that an answer at a position does not show."""
        if after >= self._position:
            return False
        if after < self._known_from:
            return True
        missed = (event for event in self._events if event[0] > after)
        return any(not places.isdisjoint(places_of(event[1], event[2])) for event in missed)

    def _begin(self, after: int) -> None:
        self._position = self._known_from = after
        self._events.clear()
        self._generations = ()
        with context(metadata=replace(current_metadata(), tenant=OTHERS)):  # watchers of any tenant are told
            self._task = asyncio.create_task(self._follow(), name="twofold-changes")

    async def _follow(self) -> None:
        """Tell the watchers of changes until none is left, or until something fails, which they are told, too."""
        try:
            while self._joined or not self._generations:
                await self._step()
                await asyncio.sleep(self._options.watch_pause)
        except Exception as error:
            for watcher in self._all():
                watcher.fail(error)

    async def _step(self) -> None:
        """Wait for a change, or for a while, and tell whom it concerns."""
        patience = self._options.watch_poll if self._generations else self._options.poll
        deadline = time.monotonic() + patience
        found = await asyncio.gather(*(each.approach(self._position + 1, deadline, patience) for each in self._reads))
        end = min(each.reached for each in self._reads)
        generations = [each.generation.number for each in found]
        is_another = bool(self._generations) and generations != self._generations
        self._generations = generations
        if is_another or end < self._position:
            self._start_over(end)
        elif end > self._position:
            await self._tell(end)

    async def _tell(self, end: int) -> None:
        rows = await self._log.read(EventQuery.all(), after=self._position, before=end + 1, limit=self._size)
        if len(rows) == self._size and rows[-1].position < end:
            self._start_over(end)
            return
        for row in rows:
            if len(self._events) == self._size:
                self._known_from = self._events[0][0]
            event: _Event = (row.position, row.type, _decode_tags(row.tags))
            self._events.append(event)
            for place in places_of(event[1], event[2]):
                for watcher in self._watchers.get(place, ()):
                    if row.position > watcher.after:
                        watcher.tell(end)
        self._position = end

    def _start_over(self, end: int) -> None:
        """Go on from a position, with no event known, and wake all."""
        self._position = self._known_from = end
        self._events.clear()
        for watcher in self._all():
            watcher.tell(end)

    def _all(self) -> Iterator[Watcher]:
        return (watcher for watchers in self._watchers.values() for watcher in watchers)
