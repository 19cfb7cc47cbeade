"""The read models as far as today's synchronizer tells of them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from twofold.errors import ReadModelBuildingError, UnknownProjectionError
from twofold.generations import SQL, Checkpoint
from twofold.messages import event_type_of
from twofold.sql_projection import Reaction
from twofold.status import lag_of
from twofold.synchronizer import ReadModelSynchronizer


class SynchronizedReadModels:
    """Fulfils `twofold.consistency.ReadModels` until the synchronizer does so by itself."""

    def __init__(self, synchronizer: ReadModelSynchronizer) -> None:
        self._synchronizer = synchronizer
        self._store = synchronizer._store
        self._registered = synchronizer._registered
        self._follows = False

    def projections(self) -> Collection[str]:
        """See `ReadModels`. What is done by reactions can be queried nowhere."""
        return [name for name, each in self._registered.items() if not isinstance(each.projector.projection, Reaction)]

    def handled(self, projection: str) -> frozenset[str]:
        """See `ReadModels`."""
        types = map(event_type_of, self._registered[projection].projector.projection.handles())
        return frozenset(name for each in types for name in (each.name, *each.aliases))

    def max_lag(self, projection: str) -> timedelta | None:
        """See `ReadModels`."""
        limit: timedelta | None = self._registered[projection].projector.projection.max_lag
        return limit

    async def reached(self, projection: str) -> int:
        """See `ReadModels`."""
        try:
            generation = await self._registered[projection].place.find()
        except (UnknownProjectionError, ReadModelBuildingError):
            return 0
        return self._synchronizer._progress.head(generation.name, generation.number).position

    async def lag(self, projection: str) -> timedelta:
        """See `ReadModels`."""
        reached = await self.reached(projection)
        if reached >= await self._known_head(reached):
            return timedelta(0)
        registered = self._registered[projection]
        generation = await registered.place.find()
        rows = await registered.database.query(
            SQL["checkpoints_of"], name=generation.name, generation=generation.number
        )
        lags = [await lag_of(self._store, registered.projector, Checkpoint(*row)) for row in rows]
        return max(lags, default=timedelta(0))

    async def wait(self, position: int, timeout: float, projections: Collection[str] | None = None) -> None:
        """See `ReadModels`."""
        await self._synchronizer.wait(position, timeout, self.projections() if projections is None else projections)

    async def head(self) -> int:
        """See `ReadModels`."""
        return await self._store.head()

    async def _known_head(self, reached: int) -> int:
        """Return the head without asking for it: waiting for the log makes it tell of each append."""
        if not self._follows:
            self._follows = True
            await self._store.log.wait(reached, 0)
            return await self._store.head()
        return await self._store.log.wait(reached, 0)
