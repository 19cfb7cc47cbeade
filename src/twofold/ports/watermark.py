"""The head of a log as this process knows it, and those who wait for it to move."""

from __future__ import annotations

import asyncio


class Head:
    """A position that only grows. Waiters are woken by `advance`; they cost nothing while they wait."""

    def __init__(self) -> None:
        self.position = 0
        self._moved = asyncio.Event()
        self.waiters = 0

    def advance(self, position: int) -> None:
        """Tell that the log reaches to `position`. To be called in the event loop's thread."""
        if position > self.position:
            self.position = position
            self._moved.set()
            self._moved = asyncio.Event()

    def set_back(self, position: int) -> None:
        """Tell that it reaches only to `position`, should it have been thought to reach further."""
        self.position = min(self.position, position)

    async def wait(self, after: int, timeout: float) -> int:
        """Return the position once it is beyond `after`, or after `timeout` seconds whatever it is."""
        self.waiters += 1
        try:
            async with asyncio.timeout(timeout):
                while self.position <= after:
                    await self._moved.wait()
        except TimeoutError:
            pass
        finally:
            self.waiters -= 1
        return self.position
