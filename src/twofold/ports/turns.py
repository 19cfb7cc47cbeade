"""Turns: callers who ask a database for one thing, one after the other, and share one wait if it does not answer."""

from __future__ import annotations

import asyncio
from types import TracebackType

from twofold.errors import OutcomeUnknownError, StorageUnavailableError


class Turns:
    """Gives one caller at a time its turn: `async with turns`.

    If the database does not answer the caller whose turn it is, those who wait for theirs fail at once as well. Else
    each of them would begin a wait of its own when the one before has given up, and the last of twenty would wait for
    twenty time-outs. A caller who comes later asks for itself.
    """

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        """For a caller who must have its turn in any case, such as one who closes."""
        self._outages = 0
        self._why = ""

    async def __aenter__(self) -> None:
        await self.begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end(error)

    async def begin(self) -> None:
        """Wait for the turn, which `end` ends.

        Raises:
            StorageUnavailableError: the database did not answer a caller before.
        """
        outages = self._outages
        await self.lock.acquire()
        if self._outages != outages:
            self.lock.release()
            raise StorageUnavailableError(self._why)

    def end(self, error: BaseException | None = None) -> None:
        """End the turn, with the error that it ended with."""
        if isinstance(error, StorageUnavailableError):
            self._outages, self._why = self._outages + 1, str(error)
        elif isinstance(error, OutcomeUnknownError):
            self._outages += 1
            self._why = f"nothing was stored, as the database did not answer the caller before: {error}"
        self.lock.release()
