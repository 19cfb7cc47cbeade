"""Where a read model stands in the database that answers its questions, and waiting until it has come further."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta

from twofold.errors import ReadModelBuildingError, StorageError, UnknownProjectionError
from twofold.log.event_store import EventStore
from twofold.ports.checkpoints import SQL, Checkpoint, Generation
from twofold.ports.positions import Positions
from twofold.ports.read_database import REPLICATION, ReadDatabase
from twofold.ports.watermark import Head
from twofold.projections.runner import ProjectionRunner
from twofold.queries.serving import FRESH, UNREADY, Place
from twofold.synchronizer.leases import segment_of
from twofold.synchronizer.status import lag_of

POLL = 1.0
"""Seconds after which a checkpoint is looked at, should the signal that it moved have been lost."""


class Standing:
    """How far a read model has come in one database, whichever process moves it.

    Args:
        store: where the events are.
        database: where the read model is.
        runner: its code.
        positions: what this process knows of the read models in this database.
    """

    def __init__(
        self, store: EventStore, database: ReadDatabase, runner: ProjectionRunner, positions: Positions
    ) -> None:
        self.runner = runner
        self.place = Place(database, runner, 0.0 if runner.drive.by_appends else FRESH)
        self._store = store
        self._database = database
        self._positions = positions
        self._looking = asyncio.Lock()
        self._looked_at = 0.0

    @property
    def reached(self) -> int:
        """The position that it has passed for certain, as far as this process knows."""
        generation = self.place.known
        return self._head(generation).position if generation else 0

    async def lag(self) -> timedelta:
        """Return the age of the oldest event that it still has to handle, 0 if there is none.

        Raises:
            StorageError: a database failed.
        """
        if self.reached >= await self._store.head():
            return timedelta()
        rows = await self._checkpoints(await self.place.find())
        return max([await lag_of(self._store, self.runner, row) for row in rows], default=timedelta())

    async def wait(self, position: int, deadline: float) -> int:
        """Wait until it has passed a position, at most until a time of `time.monotonic`; return how far it has come.

        However many wait, the database is asked once in a while for all of them.

        Raises:
            UnknownProjectionError: nobody has made it.
            ReadModelBuildingError: it is being built, and what serves has other columns.
            StorageError: a database failed.
        """
        while True:
            remaining = deadline - time.monotonic()
            try:
                reached = await self._advance(position, min(remaining, POLL), is_last=remaining <= POLL)
            except (UnknownProjectionError, ReadModelBuildingError):
                if remaining <= 0:
                    raise
                reached = 0
                await asyncio.sleep(min(remaining, UNREADY))
            if reached >= position or time.monotonic() >= deadline:
                return reached

    async def appear(self) -> None:
        """Wait until a replica shows a read model that was prepared on its primary.

        Raises:
            StorageError: it does not do so within `REPLICATION` seconds.
        """
        deadline = time.monotonic() + REPLICATION
        while time.monotonic() < deadline:
            try:
                await self.place.find(again=True)
            except UnknownProjectionError:
                await asyncio.sleep(UNREADY)
            except ReadModelBuildingError:
                return
            else:
                return
        raise StorageError(
            f"the replica does not show the read model {self.runner.name} after {REPLICATION:g} s; make sure that "
            f"it follows the database that this application writes to"
        )

    async def look(self) -> None:
        """Take note of where it stands now, also if that is further back: somebody has set it there.

        Raises:
            StorageError: a database failed.
        """
        generation = await self.place.find(again=True)
        rows = await self._checkpoints(generation)
        for row in rows:
            self._positions.reached(segment_of(row), row.epoch, row.position)
        self._head(generation).set_back(min((row.position for row in rows), default=0))  # whoever had moved it

    async def _advance(self, position: int, patience: float, *, is_last: bool) -> int:
        """Return how far the generation that serves has come, after a while at most if that is not far enough."""
        asked = time.monotonic()
        head = self._head(await self.place.find())
        if head.position < position and self.runner.drive.by_appends:  # the append has told only the database
            await self._look_up(asked)
        if head.position < position:
            self._database.follow(self._positions)
            await head.wait(position - 1, max(patience, 0))
        if head.position < position:
            await self._look_up(time.monotonic() - (0 if is_last else POLL))
        return max(head.position, self.reached)

    async def _look_up(self, since: float) -> None:
        """Look where what serves now stands, unless anybody has done so since then."""
        async with self._looking:
            if self._looked_at < since:
                now = time.monotonic()
                generation = await self.place.find(again=True)
                of = {"name": generation.name, "generation": generation.number}
                [(position,)] = await self._database.query(SQL["position_of"], **of)
                self._head(generation).advance(position or 0)
                self._looked_at = now

    async def _checkpoints(self, generation: Generation) -> Sequence[Checkpoint]:
        place = {"name": generation.name, "generation": generation.number}
        return [Checkpoint(*row) for row in await self._database.query(SQL["checkpoints_of"], **place)]

    def _head(self, generation: Generation) -> Head:
        return self._positions.head(generation.name, generation.number)
