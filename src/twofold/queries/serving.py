"""Which generation of a read model answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from twofold.errors import ReadModelBuildingError, UnknownProjectionError
from twofold.ports.checkpoints import SQL, Generation
from twofold.ports.read_database import ReadDatabase
from twofold.projections.runner import ReadModelBuilder

FRESH = 1.0
"""Seconds after which it is looked up again which generation serves."""


UNREADY = 0.05
"""The same, if none serves yet."""


GRACE_OF_PREVIOUS = 2 * FRESH
"""Seconds for which the generation that served before stands still, as it may still be asked."""


class Place:
    """Which generation answers the questions of this version of the code; looked up now and then.

    Args:
        database: where it is.
        code: what builds it.
        fresh: seconds for which what was found holds. The one before is kept in step for much longer, but not by the
            appends.
    """

    def __init__(self, database: ReadDatabase, code: ReadModelBuilder, fresh: float = FRESH) -> None:
        self._fresh = fresh
        self._database = database
        self._code = code
        self._found: Generation | None = None
        self._built: int | None = None
        self._looked_at = 0.0
        self._looking = asyncio.Lock()

    @property
    def known(self) -> Generation | None:
        """The generation that was found last."""
        return self._found

    async def find(self, *, again: bool = False) -> Generation:
        """Return the generation that serves this version, or the one before if its rows look alike.

        However many ask at one moment, the database is asked once.

        Args:
            again: look it up now.

        Raises:
            UnknownProjectionError: nothing was prepared.
            ReadModelBuildingError: it is being built, and what serves looks otherwise.
            StorageError: the database failed.
        """
        asked = time.monotonic()
        since = asked if again else asked - (self._fresh if self._found else UNREADY)
        if self._looked_at < since:
            async with self._looking:
                if self._looked_at < since:  # else whoever went before has looked for all who waited
                    await self._look()
        if self._found is not None:
            return self._found
        if self._built is None:
            raise UnknownProjectionError(self._code.name, ())
        raise ReadModelBuildingError(self._code.name, self._code.version, self._built)

    def forget(self) -> None:
        """Look it up the next time."""
        self._looked_at = 0.0

    async def _look(self) -> None:
        now = time.monotonic()  # before the question, however long the answer takes
        rows = await self._database.query(SQL["generations_of"], name=self._code.name)
        known: dict[str, Generation] = {each.role: each for each in (Generation(*row) for row in rows)}
        found, built = self._choose(known), None
        if known and found is None:
            of = known.get("building", known["serving"])
            [(position,)] = await self._database.query(SQL["position_of"], name=of.name, generation=of.number)
            built = position or 0
        self._found, self._built, self._looked_at = found, built, now

    def _choose(self, known: Mapping[str, Generation]) -> Generation | None:
        for role in ("serving", "previous"):
            if (found := known.get(role)) and found.version == self._code.version:
                return found
        live = known.get("serving")
        return live if live and live.parts.get("row") == self._code.fingerprint()["row"] else None
