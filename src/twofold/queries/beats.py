"""Ending many waits with few timers.

A thousand waits that end at a thousand moments wake a process at rest a thousand times. Here each wait
ends at a beat, and one timer ends all waits of a beat.
"""

from __future__ import annotations

import asyncio
import math

Wait = asyncio.Future[int | None]
"""Given None at its beat, unless it has a result by then."""


class Beats:
    """Gives waits an end.

    Args:
        parts: beats within the time that a wait may take; the wait ends at the last of them.
    """

    def __init__(self, parts: int) -> None:
        self._parts = parts
        self._ends: dict[float, set[Wait]] = {}

    def add(self, wait: Wait, patience: float) -> set[Wait]:
        """Let a wait end after at most some seconds; return the set of those that end with it, to withdraw it from.

        It ends earlier by less than one part of that time. A wait that begins where one of the same length has ended
        takes the whole time.
        """
        loop = wait.get_loop()
        moment = _last_beat(loop.time() + patience, patience / self._parts)
        ending = self._ends.get(moment)
        if ending is None:
            ending = self._ends[moment] = set()
            loop.call_at(moment, self._end, moment)
        ending.add(wait)
        return ending

    def _end(self, moment: float) -> None:
        for wait in self._ends.pop(moment):
            if not wait.done():
                wait.set_result(None)


def _last_beat(moment: float, beat: float) -> float:
    return math.floor(moment / beat) * beat if beat > 0 else moment
