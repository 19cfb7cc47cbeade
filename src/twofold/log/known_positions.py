"""Whether a position that a client or a receipt names is of the history that the log has now.

1. What this process appended a moment ago is of it: nothing is asked.
2. What was compared before is of it for as long as the highest position that was compared is, since the event at one
   position identifies all before it. That one is compared again now and then.
3. Any other is compared with the event that stands there.
"""

from __future__ import annotations

import math
import time
from collections import deque

from twofold.errors import InvalidTokenError
from twofold.messages.mark import START, Mark
from twofold.messages.position import Position
from twofold.options import LogOptions
from twofold.ports.event_log import EventLog


class KnownPositions:
    """The positions that are known to be of the log's history.

    Args:
        log: the log.
        options: for how long a position is believed, and how many are remembered.
    """

    def __init__(self, log: EventLog, options: LogOptions) -> None:
        self._log = log
        self._believed, self._most_compared = options.believed, options.compared_positions
        self._own: deque[tuple[Position, float]] = deque(maxlen=options.own_positions)
        self._compared: dict[int, bytes] = {}
        self._highest = START
        self._looked_at, self._losses = -math.inf, 0

    def appended(self, position: Position) -> None:
        """Take note of what this process has appended and committed just now."""
        self._own.append((position, time.monotonic()))

    async def compare(self, position: int) -> None:
        """Make sure that the event of a position stands there; a bare number names no event, and is not compared.

        Raises:
            InvalidTokenError: another event stands there, or none: the position is of another history.
            StorageError: the database failed.
        """
        if not position or not (mark := Mark.of(position)).event_id:
            return
        if self._log.times_set_back != self._losses:
            self._own.clear()
            self._looked_at, self._losses = -math.inf, self._log.times_set_back
        if self._is_own(mark):
            return
        if self._compared.get(mark.position) != mark.event_id or not await self._is_one_history():
            await self._look(mark)

    def _is_own(self, mark: Mark) -> bool:
        since = time.monotonic() - self._believed
        for position, appended_at in reversed(self._own):
            if appended_at < since:
                return False
            if position == mark.position:
                return position.event_id == mark.event_id
        return False

    async def _look(self, mark: Mark) -> None:
        found = await self._log.mark(mark.position)
        if not mark.agrees(found):
            there = f"the log has {found} there" if found else "the log ends before it"
            raise InvalidTokenError(
                f"position {mark} is of another history: {there}. The log was restored to an older state, or "
                f"is another one; ask again without it"
            )
        if mark.position > self._highest.position:  # all that was compared before must be of the same history
            self._looked_at = -math.inf
            await self._is_one_history()
            self._highest = max(self._highest, mark)
        if len(self._compared) >= self._most_compared:
            self._compared.clear()
        self._compared[mark.position] = mark.event_id

    async def _is_one_history(self) -> bool:
        """Return whether the log still has the history in which positions were compared; if not, forget them."""
        now = time.monotonic()
        if now < self._looked_at + self._believed:
            return True
        highest = self._highest
        if highest.agrees(await self._log.mark(highest.position) if highest.position else START):
            self._looked_at = now
            return True
        self._compared.clear()
        self._highest = START
        return False
