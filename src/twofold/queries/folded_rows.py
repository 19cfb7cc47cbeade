"""What a read model asks for rows that are folded from the log, beside those that are stored."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from twofold.log.folding.as_of import AsOf
from twofold.projections.projection import KeyValues


class Overlaid(Protocol):
    """Folds what a stored row lacks over it."""

    async def get(self, key: KeyValues) -> Any:
        """Return the row with this key as the log has it now, or None.

        Raises:
            StaleReadError: too much is missing.
            StorageError: a database failed.
        """


class Past(Protocol):
    """Tells what a read model showed at earlier moments."""

    async def row(self, key: KeyValues, as_of: AsOf) -> Any:
        """Return the row with this key as of a moment, or None; raises what `ReadModel.get` raises."""

    def model(self, as_of: AsOf, progress: Callable[[int, int], object]) -> AbstractAsyncContextManager[Any]:
        """Fold the whole read model as of a moment; see `ReadModel.as_of`."""
