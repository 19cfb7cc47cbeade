"""Watermarks: how far a log or a read model has come, as this process believes, and waiting for it to move."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Watermark:
    """A position up to which something is known to reach. Tasks that wait for more cost nothing until it moves.

    It is a hint that there is more to read. It goes back when the database shows less, as after a restore.
    """

    def __init__(self) -> None:
        self.position = 0
        self._moved = _Signal()
        self.times_set_back = 0
        """How often it has gone back."""
        self.waiters = 0
        self._is_wanted: asyncio.Event | None = None

    def advance(self, position: int) -> None:
        """Tell that it reaches to `position`. To be called in the event loop's thread."""
        if position > self.position:
            self.position = position
            self._wake()

    def set_back(self, position: int) -> None:
        """Tell that it reaches only to `position`. Tasks that wait go on, so that they look where they stand."""
        if position < self.position:
            self.position = position
            self.times_set_back += 1
            self._wake()

    def read(self, position: int, known: int) -> None:
        """Tell what the database has shown, and which position was known before it was asked.

        It may show less than is known by now, as other tasks have gone on; less than was known before shows that it has
        lost something.
        """
        if position >= known:
            self.advance(position)
        elif self.position == known:
            self.set_back(position)

    def fail(self, error: Exception) -> None:
        """Have every task that waits now raise an error: what tells of its moves has failed."""
        self._moved.failure = error
        self._wake()

    async def wait(self, after: int, timeout: float) -> int:
        """Return the position once it is beyond `after` or has gone back, or after `timeout` seconds whatever it is.

        Raises:
            Exception: what `fail` was given.
        """
        self.waiters += 1
        if self._is_wanted is not None:
            self._is_wanted.set()
        times = self.times_set_back
        try:
            async with asyncio.timeout(timeout):
                while self.position <= after and times == self.times_set_back:
                    moved = self._moved
                    await moved.wait()
                    if moved.failure is not None:
                        raise moved.failure
        except TimeoutError:
            pass
        finally:
            self.waiters -= 1
        return self.position

    async def wanted(self, timeout: float) -> None:
        """Return once a task waits for more, or after `timeout` seconds."""
        if self.waiters:
            return
        self._is_wanted = self._is_wanted or asyncio.Event()
        self._is_wanted.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._is_wanted.wait()

    def _wake(self) -> None:
        if self.waiters:  # without one, each append would pay for a signal that no task sees
            self._moved.set()
            self._moved = _Signal()


class _Signal(asyncio.Event):
    failure: Exception | None = None
