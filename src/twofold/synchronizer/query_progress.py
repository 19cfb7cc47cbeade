"""What queries ask of the projections: what they handle, how far they have come, how late they are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from datetime import timedelta

from twofold.errors import StaleReadError
from twofold.log.event_store import EventStore
from twofold.messages.event import event_type_of
from twofold.messages.read_policy import Policy
from twofold.synchronizer.on_demand import OnDemandRows
from twofold.synchronizer.read_model_progress import Standing
from twofold.synchronizer.registry import Registrations


class ReadModelProgress:
    """A `twofold.queries.consistency.Progress`, of the read models as they stand where questions are answered.

    Whether this process runs the projections or others do makes no difference.
    """

    def __init__(self, store: EventStore, registrations: Registrations) -> None:
        self._store = store
        self._registrations = registrations

    def projections(self) -> Collection[str]:
        """Return the names of the projections that have read models; what reactions did can be queried nowhere."""
        stored = self._registrations.stored.items()
        return [
            *(name for name, each in stored if each.runner.has_read_model),
            *self._registrations.on_demand,
        ]

    def handled(self, projection: str) -> frozenset[str]:
        """See `Progress.handled`."""
        types = map(event_type_of, self._of(projection).runner.projection.handles())
        return frozenset(name for each in types for name in (each.name, *each.aliases))

    def max_lag(self, projection: str) -> timedelta | None:
        """See `Progress.max_lag`."""
        limit: timedelta | None = self._of(projection).runner.projection.max_lag
        return limit

    def policy(self, projection: str) -> Policy | None:
        """See `Progress.policy`."""
        declared: Policy | None = self._of(projection).runner.projection.policy
        return declared

    def reached(self, projection: str) -> int:
        """See `Progress.reached`."""
        return self._of(projection).reached

    async def lag(self, projection: str) -> timedelta:
        """See `Progress.lag`."""
        return await self._of(projection).lag()

    async def wait(self, position: int, timeout: float, projections: Collection[str] | None = None) -> None:
        """See `Progress.wait`.

        Raises:
            UnknownProjectionError: there is none of that name.
            ReadModelBuildingError: one is being built, and what serves has other columns.
        """
        deadline = time.monotonic() + timeout
        names = list(self._registrations.stored) if projections is None else projections
        standings = [self._of(name) for name in names]
        reached = await asyncio.gather(*(each.wait(position, deadline) for each in standings))
        behind = {name: at for name, at in zip(names, reached, strict=True) if at < position}
        if behind:
            raise StaleReadError(position, behind, self._registrations.faults())

    async def head(self) -> int:
        """See `Progress.head`."""
        return await self._store.head()

    def _of(self, name: str) -> Standing | OnDemandRows:
        return self._registrations.on_demand.get(name) or self._registrations.of(name).served
