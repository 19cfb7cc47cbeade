"""The ordered lane: all that wait at one moment go as one group, and one group after the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from twofold.event_log import Append
from twofold.postgres.batch import Outcome

MAX_APPENDS = 512
MAX_EVENTS = 2000


class _Waiting(NamedTuple):
    append: Append
    future: asyncio.Future[Outcome]


class Lane:
    """Hands appends over in groups, in the order in which they came.

    `commit` returns an outcome, or the error to raise, for each append of a group.
    """

    def __init__(self, commit: Callable[[Sequence[Append]], Awaitable[Sequence[Outcome | Exception]]]) -> None:
        self._commit = commit
        self._waiting: deque[_Waiting] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, append: Append) -> Outcome:
        """Wait for an append's turn and return its outcome. Cancelling the caller does not take it back."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(append, future))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work(), name="twofold-postgres-lane")
        return await future

    async def drain(self) -> None:
        """Return when all appends have their outcome."""
        while self._worker is not None:
            await asyncio.wait({self._worker})

    async def _work(self) -> None:
        try:
            while self._waiting:
                group = self._next_group()
                _resolve(group, await self._commit([waiting.append for waiting in group]))
                if not self._waiting:
                    await asyncio.sleep(0)  # those who were just answered may come again, as a group
        finally:
            self._worker = None

    def _next_group(self) -> list[_Waiting]:
        """Take from the front, up to the first append that shares an id with an earlier one of the group."""
        group: list[_Waiting] = []
        ids: set[bytes] = set()
        events = 0
        while self._waiting and len(group) < MAX_APPENDS:
            append = self._waiting[0].append
            own = {event.event_id for event in append.events}
            if append.command:
                own.add(append.command.command_id)
            if group and (events + len(append.events) > MAX_EVENTS or not ids.isdisjoint(own)):
                break
            ids |= own
            events += len(append.events)
            group.append(self._waiting.popleft())
        return group


def _resolve(group: Sequence[_Waiting], outcomes: Sequence[Outcome | Exception]) -> None:
    for waiting, outcome in zip(group, outcomes, strict=True):
        if waiting.future.done():  # its caller was cancelled
            continue
        if isinstance(outcome, Exception):
            waiting.future.set_exception(outcome)
        else:
            waiting.future.set_result(outcome)
