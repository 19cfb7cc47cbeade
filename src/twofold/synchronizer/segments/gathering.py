"""Letting events gather: while many come one after the other, a step for several costs little more than one for one.

1. `Gathering` waits until the log has more, as the runner of a segment wants it.
2. If events come so fast that several more will be there in a moment, it waits for that moment too.
3. A query that waits for the read model ends the moment, and no event that comes alone has to wait.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from twofold.options import SynchronizerOptions
from twofold.ports.watermark import Watermark

Head = Callable[[int, float], Awaitable[int]]
"""Waits until there is more than up to a position, at most some seconds, and returns up to where."""


class Gathering:
    """Tells the runner of a segment how far it may go, and lets events gather before that; it is a `Head`.

    Args:
        head: waits for more.
        reached: of the read model, for which queries wait.
        options: for how long events gather, and from how many on.
    """

    def __init__(self, head: Head, reached: Watermark, options: SynchronizerOptions) -> None:
        self._head = head
        self._reached = reached
        self._moment, self._worth = options.gathering, options.gathered
        self._known, self._known_at = 0, 0.0

    async def __call__(self, after: int, timeout: float) -> int:
        """Wait until there is more than up to a position, and return up to where."""
        head = await self._head(after, timeout)
        if head > after and self._is_busy(head):
            await self._reached.wanted(self._moment)
            head = max(head, await self._head(after, 0))
        return head

    def _is_busy(self, head: int) -> bool:
        """Return whether as many events as are worth it come within a moment, as they came since the last question."""
        now, came = time.monotonic(), head - self._known
        passed, self._known, self._known_at = now - self._known_at, head, now
        return came * self._moment >= self._worth * passed
