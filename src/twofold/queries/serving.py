"""Which generation of a read model answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from twofold.errors import ReadModelBuildingError, UnknownProjectionError
from twofold.options import QueryOptions
from twofold.ports.checkpoints import SQL, Generation
from twofold.ports.read_database import ReadDatabase
from twofold.ports.turns import Turns
from twofold.projections.runner import ReadModelBuilder


class Serving(NamedTuple):
    """The generation that answers, as it stood when it was looked up."""

    generation: Generation
    position: int
    """All its segments were complete up to here."""
    has_parked: bool
    """Whether any events were parked."""
    holds_back: bool = False
    """Whether any tenant was held back, so that the others may be further."""


class ServingGeneration:
    """Finds the generation that answers the questions of this version of the code; the database is asked now and then.

    Args:
        database: where the read model is.
        code: what builds it.
        lookup: seconds for which what was found holds; 0 where the generation before does not stand still.
        options: how often to look while none serves.
    """

    def __init__(
        self,
        database: ReadDatabase,
        code: ReadModelBuilder,
        lookup: float | None = None,
        options: QueryOptions = QueryOptions(),  # noqa: B008 - it is immutable
    ) -> None:
        self._lookup = options.lookup if lookup is None else lookup
        self._unready_lookup = options.unready_lookup
        self._database = database
        self._code = code
        self._found: Serving | None = None
        self._built: int | None = None
        self._looked_at = 0.0
        self._looking = Turns()

    @property
    def known(self) -> Serving | None:
        """The generation that was found last, or None."""
        return self._found

    def at_hand(self) -> Serving | None:
        """Return what `find` returns, if no database has to be asked for it; else None."""
        is_fresh = self._looked_at >= time.monotonic() - self._lookup
        return self._found if is_fresh else None

    async def find(self) -> Serving:
        """Return the generation that serves this version, or the one before if its rows look alike.

        Raises:
            UnknownProjectionError: nothing was prepared.
            ReadModelBuildingError: it is being built, and what serves has other columns.
            StorageError: the database failed.
        """
        since = time.monotonic() - (self._lookup if self._found else self._unready_lookup)
        if self._found is not None and self._looked_at >= since:
            return self._found
        return await self.look(since)

    async def look(self, since: float, reaching: int = 0) -> Serving:
        """Return the generation that serves, as it stood at a time or later; questions at one moment share one look.

        Args:
            since: by `time.monotonic`.
            reaching: a position; an earlier look that found the generation there will do.

        Raises:
            UnknownProjectionError, ReadModelBuildingError, StorageError: as `find`.
        """
        if not self._is_known(since, reaching):
            async with self._looking:
                if not self._is_known(since, reaching):
                    await self._look()
        if self._found is not None:
            return self._found
        if self._built is None:
            raise UnknownProjectionError(self._code.name, ())
        raise ReadModelBuildingError(self._code.name, self._code.version, self._built)

    def forget(self) -> None:
        """Look it up the next time."""
        self._looked_at = 0.0

    def _is_known(self, since: float, reaching: int) -> bool:
        if self._looked_at >= since:
            return True
        is_fresh = self._looked_at >= time.monotonic() - self._lookup
        return bool(reaching and is_fresh and self._found and self._found.position >= reaching)

    async def _look(self) -> None:
        now = time.monotonic()  # before the question, however long the answer takes
        rows = await self._database.query(SQL["serving"], name=self._code.name)
        known: dict[str, Serving] = {}
        for *row, position, has_parked, holds_back in rows:
            found = Serving(Generation(*row), position or 0, bool(has_parked), bool(holds_back))
            known[found.generation.role] = found
        self._found, self._looked_at = self._choose(known), now
        self._built = known.get("building", known["serving"]).position if known else None

    def _choose(self, known: Mapping[str, Serving]) -> Serving | None:
        for role in ("serving", "previous"):
            if (found := known.get(role)) and found.generation.version == self._code.version:
                return found
        serving = known.get("serving")
        row = self._code.fingerprint()["row"]
        return serving if serving and serving.generation.parts.get("row") == row else None
