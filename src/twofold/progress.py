"""The progress of the read models as far as today's synchronizer tells it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from twofold.event_query import EventQuery
from twofold.messages import EPOCH, event_type_of, utc_now
from twofold.synchronizer import ReadModelSynchronizer


class SynchronizerProgress:
    """Fulfils `twofold.consistency.Progress` until the synchronizer does so by itself."""

    def __init__(self, synchronizer: ReadModelSynchronizer) -> None:
        self._synchronizer = synchronizer
        self._store = synchronizer._store
        self._read_db = synchronizer._read_db
        self._workers = synchronizer._workers
        self._follows = False

    def projections(self) -> Collection[str]:
        """See `Progress`."""
        return self._workers.keys()

    def handled(self, projection: str) -> frozenset[str]:
        """See `Progress`."""
        types = map(event_type_of, self._workers[projection]._projection.handles())
        return frozenset(name for each in types for name in (each.name, *each.aliases))

    def max_lag(self, projection: str) -> timedelta | None:
        """See `Progress`."""
        return self._workers[projection]._projection.max_lag

    def reached(self, projection: str) -> int:
        """See `Progress`."""
        return self._workers[projection].reached.position

    async def lag(self, projection: str) -> timedelta:
        """See `Progress`."""
        worker = self._workers[projection]
        if worker.reached.position >= await self._known_head(worker.reached.position):
            return timedelta(0)
        worker.reached.advance(await self._read_db.checkpoint(projection))
        handled = EventQuery.of(*worker._projection.handles())
        missing = await self._store.log.read(handled, after=worker.reached.position, limit=1)
        if not missing:
            return timedelta(0)
        return max(utc_now() - (EPOCH + timedelta(microseconds=missing[0].recorded_at)), timedelta(0))

    async def wait(self, position: int, timeout: float, projections: Collection[str] | None = None) -> None:
        """See `Progress`."""
        for name in self._workers if projections is None else projections:
            if timeout <= 0:  # the synchronizer would not look at all
                self._workers[name].reached.advance(await self._read_db.checkpoint(name))
        await self._synchronizer.wait(position, timeout, projections)

    async def head(self) -> int:
        """See `Progress`."""
        return await self._store.head()

    async def _known_head(self, reached: int) -> int:
        """Return the head without asking for it: waiting for the log makes it tell of each append."""
        if not self._follows:
            self._follows = True
            await self._store.log.wait(reached, 0)
            return await self._store.head()
        return await self._store.log.wait(reached, 0)
