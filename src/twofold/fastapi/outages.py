"""Requests that take long ask whether the database is still there, and are answered if it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

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

    def is_over(self) -> asyncio.Task[bool]:
        """Ask whether the database answers again; all who ask at one moment share the question."""
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


class Bounded:
    """A block that answers a request: refused and cancelled if the database is away after some patience.

    The request is refused first, since a driver whose query is cancelled takes seconds to give a silent connection up.

    Every request is such a block, so it costs one timer: a task only begins when that is due.

    Args:
        outages: tells whether the database answers.
        patience: seconds after which it is asked.
        refuse: answers the request.
    """

    __slots__ = ("_cancellations", "_is_given_up", "_outages", "_patience", "_refuse", "_task", "_timer", "_watching")

    def __init__(self, outages: Outages, patience: float, refuse: Callable[[], Awaitable[None]]) -> None:
        self._outages = outages
        self._patience = patience
        self._refuse = refuse
        self._watching: asyncio.Task[None] | None = None
        self._is_given_up = False

    def let_go(self) -> None:
        """Let the block take its time from here on: the request is being answered."""
        self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine runs in one
        self._task, self._cancellations = task, task.cancelling()
        self._timer = task.get_loop().call_later(max(self._patience, LEAST), self._begin)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.let_go()
        del self._refuse  # what refers to this: of a cycle, the garbage collector would have to free each request
        if not self._is_given_up:
            return False
        is_ours = self._task.uncancel() <= self._cancellations
        return is_ours and isinstance(error, asyncio.CancelledError)

    def _begin(self) -> None:
        self._watching = self._task.get_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while await asyncio.shield(self._outages.is_over()):  # noqa: ASYNC110 - a slow request signals nothing
            await asyncio.sleep(PROBE)
        with suppress(OSError):  # the client has left
            await self._refuse()
        self._is_given_up = True
        self._task.cancel()
