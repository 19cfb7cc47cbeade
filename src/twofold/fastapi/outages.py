"""Requests that take long ask whether the database is still there, and are answered if it is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from twofold.errors import TwofoldError

PATIENCE = 3.5
"""Seconds after which a request that has no answer asks for the database. Raised, clients of a server whose database is
away wait longer; lowered, slow requests ask more often."""
LEAST = 0.5
"""Seconds below which no request asks, also if its client will not wait for read models: most are answered by then."""
PROBE = 1.0
"""Seconds that the database gets to answer; together with `PATIENCE` the longest wait of a client, below five."""


class Outages:
    """Bounds how long requests wait for a database that is away; requests that are merely slow go on.

    Drivers and pools have time-outs of their own, which are longer: an append tries again until its outcome is known.
    A client gets its answer before that.

    Args:
        ask: asks the database anything; raises `StorageError` if it does not answer.
    """

    def __init__(self, ask: Callable[[], Awaitable[None]]) -> None:
        self._ask = ask
        self._probe: asyncio.Task[bool] | None = None
        """One question at a time, for all who want to know."""

    @asynccontextmanager
    async def bounded(
        self, patience: float, refuse: Callable[[], Awaitable[None]]
    ) -> AsyncIterator[Callable[[], None]]:
        """Refuse a request whose block takes longer than `patience` while the database is away, and cancel the block.

        It is refused first, since a driver whose query is cancelled takes seconds to give a silent connection up. The
        function that is yielded ends all this, once the request is being answered.

        Args:
            patience: seconds after which the database is asked.
            refuse: answers the request.
        """
        loop, watching = asyncio.get_running_loop(), set[asyncio.Task[None]]()
        limit = asyncio.timeout(None)
        try:
            async with limit:

                def watch() -> None:
                    watching.add(loop.create_task(self._watch(limit, refuse)))

                def let_go() -> None:
                    timer.cancel()
                    for each in watching:
                        each.cancel()

                timer = loop.call_later(max(patience, LEAST), watch)
                try:
                    yield let_go
                finally:
                    let_go()
        except TimeoutError:
            if not limit.expired():
                raise

    async def _watch(self, limit: asyncio.Timeout, refuse: Callable[[], Awaitable[None]]) -> None:
        while await asyncio.shield(self._answers()):  # noqa: ASYNC110 - a slow request signals nothing
            await asyncio.sleep(PROBE)
        with suppress(OSError):  # the client has left
            await refuse()
        limit.reschedule(asyncio.get_running_loop().time())

    def _answers(self) -> asyncio.Task[bool]:
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._look())
        return self._probe

    async def _look(self) -> bool:
        try:
            async with asyncio.timeout(PROBE):
                await self._ask()
        except (TwofoldError, OSError):  # `TimeoutError` is one of the latter
            return False
        return True
