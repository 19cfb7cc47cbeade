"""Changes of some read models: one task waits for them on behalf of all watchers, and wakes those that they concern.

The task runs while anyone waits. It stands at a position: the watchers have been told of all events up to there. An
event wakes the watchers that are listed under its type and one of its tags, so that the others cost nothing. All are
woken where no event tells what has changed: another generation answers, the read models have gone back, or there are
more new events than are kept.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence, Set

import msgspec

from twofold.messages.event_query import EventQuery
from twofold.options import QueryOptions
from twofold.ports.event_log import EventLog
from twofold.queries.consistency import Progress
from twofold.queries.scope import Place, Scope, places_of

_decode_tags = msgspec.json.Decoder(list[str]).decode
_Event = tuple[int, str, Sequence[str]]
"""Position, type and tags."""
_Woken = asyncio.Future[int | None]
"""Given the position that was passed, or None once a watcher has waited in vain."""


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
        self._watchers: dict[Place, dict[_Woken, int]] = {}
        """Who waits for events of a type with a tag, and the position that his answer shows."""
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None

    async def wait(self, scopes: Collection[Scope], after: int, patience: float) -> int | None:
        """Wait until an event behind `after` concerns one of these scopes; return the position that was passed then.

        None is returned after `patience` seconds.

        Raises:
            StorageError: a database failed.
        """
        places = {place for scope in scopes for place in scope.places()}
        if self._task is None or self._task.done():
            self._begin(after)
        if self._has_missed(places, after):
            return self._position
        loop = asyncio.get_running_loop()
        woken: _Woken = loop.create_future()
        for place in places:
            self._watchers.setdefault(place, {})[woken] = after
        self._waiting += 1
        giving_up = loop.call_at(_in_step(loop.time() + patience, patience / self._options.beats), _give_up, woken)
        try:
            return await woken
        finally:
            giving_up.cancel()
            self._waiting -= 1
            self._forget(places, woken)

    def _has_missed(self, places: Set[Place], after: int) -> bool:
        """Return whether the watchers were told of something that an answer at a position does not show."""
        if after >= self._position:
            return False
        if after < self._known_from:
            return True
        missed = (event for event in self._events if event[0] > after)
        return any(not places.isdisjoint(places_of(event[1], event[2])) for event in missed)

    def _forget(self, places: Set[Place], woken: _Woken) -> None:
        if woken.done() and not woken.cancelled():
            woken.exception()  # also a watcher that is cancelled at the same moment has seen it
        for place in places:
            watchers = self._watchers[place]
            del watchers[woken]
            if not watchers:
                del self._watchers[place]

    def _begin(self, after: int) -> None:
        self._position = self._known_from = after
        self._events.clear()
        self._generations = ()
        self._task = asyncio.create_task(self._follow(), name="twofold-changes")

    async def _follow(self) -> None:
        """Tell the watchers of changes until none is left, or until something fails, which they are told, too."""
        try:
            while self._waiting or not self._generations:
                await self._step()
                await asyncio.sleep(self._options.watch_pause)
        except Exception as error:
            for woken in self._all():
                if not woken.done():
                    woken.set_exception(error)

    async def _step(self) -> None:
        """Wait for a change, or for a while, and tell whom it concerns."""
        patience = self._options.watch_poll if self._generations else self._options.poll
        deadline = time.monotonic() + patience
        found = await asyncio.gather(*(each.approach(self._position + 1, deadline) for each in self._reads))
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
                for woken, after in self._watchers.get(place, {}).items():
                    if row.position > after and not woken.done():
                        woken.set_result(end)
        self._position = end

    def _start_over(self, end: int) -> None:
        """Go on from a position, with no event known, and wake all."""
        self._position = self._known_from = end
        self._events.clear()
        for woken in self._all():
            if not woken.done():
                woken.set_result(end)

    def _all(self) -> Iterator[_Woken]:
        return (woken for watchers in self._watchers.values() for woken in watchers)


def _in_step(moment: float, beat: float) -> float:
    """Return the next beat from a moment on."""
    return math.ceil(moment / beat) * beat if beat > 0 else moment


def _give_up(woken: _Woken) -> None:
    if not woken.done():
        woken.set_result(None)
