"""The events of a log, to be moved into another one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from twofold.log.moving.personal_values import Personal
from twofold.log.moving.plain_event import SourceEvent
from twofold.log.verify import verified
from twofold.options import LogOptions
from twofold.ports.maintenance import PortableLog


class LogSource:
    """An `EventSource` of a log.

    Args:
        log: an open log.
        options: how much is read at once.
        personal: opens personal fields.
    """

    def __init__(self, log: PortableLog, options: LogOptions, personal: Personal) -> None:
        self._personal = personal
        self._log = log
        self._options = options

    async def end(self) -> int:
        """Do what `EventSource.end` promises."""
        return await self._log.head()

    async def chunks(self, end: int) -> AsyncGenerator[Sequence[SourceEvent]]:
        """Do what `EventSource.chunks` promises."""
        async with aclosing(verified(self._log, end, options=self._options)) as chunks:
            async for rows in chunks:
                yield await self._personal.opened(rows)
