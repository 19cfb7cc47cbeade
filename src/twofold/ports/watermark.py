"""The head of a log as this process knows it, and those who wait for it to move."""

from __future__ import annotations

import asyncio


class Head:
    """A position that only grows. Waiters are woken by `advance`; they cost nothing while they wait."""

    def __init__(self) -> None:
        self.position = 0
        self._moved = _Signal()
        self.waiters = 0

    def advance(self, position: int) -> None:
        """Tell that the log reaches to `position`. To be called in the event loop's thread."""
        if position > self.position:
            self.position = position
            self._moved.set()
            self._moved = _Signal()

    def set_back(self, position: int) -> None:
        """Tell that it reaches only to `position`, should it have been thought to reach further."""
        self.position = min(self.position, position)

    def fail(self, error: Exception) -> None:
        """Have every task that waits now raise an error: what tells of the log's growth has failed."""
        self._moved.failure = error
        self._moved.set()
        self._moved = _Signal()

    async def wait(self, after: int, timeout: float) -> int:
        """Return the position once it is beyond `after`, or after `timeout` seconds whatever it is.

        Raises:
            Exception: what `fail` was given.
        """
        self.waiters += 1
        try:
            async with asyncio.timeout(timeout):
                while self.position <= after:
                    moved = self._moved
                    await moved.wait()
                    if moved.failure is not None:
                        raise moved.failure
        except TimeoutError:
            pass
        finally:
            self.waiters -= 1
        return self.position


class _Signal(asyncio.Event):
    failure: Exception | None = None
