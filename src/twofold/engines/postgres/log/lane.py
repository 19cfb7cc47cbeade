"""The ordered lane: all that wait at one moment go as one group, and one group after the other."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

from twofold.engines.postgres.log.batch import Batch, Outcome
from twofold.errors import OutcomeUnknownError
from twofold.ports.event_log import Append

MIN_APPENDS, MAX_APPENDS = 16, 512
"""A group is not split below the one, and never grows beyond the other."""
MAX_EVENTS = 2000
MAX_BYTES = 16 * 1024 * 1024
"""A group of several appends has no more payload: libpq sends a large message in a time that grows with its square."""

log = logging.getLogger(__name__)


class Committer(Protocol):
    """Where the lane leads to."""

    async def commit(self, batch: Batch) -> Sequence[Outcome | Exception]:
        """Return an outcome, or the error to raise, for each append."""


class _Waiting(NamedTuple):
    append: Append
    future: asyncio.Future[Outcome]


class _Group(NamedTuple):
    members: list[_Waiting]
    batch: Batch


class Lane:
    """Hands appends over in groups, in the order in which they came.

    With many callers, one half of them commits while the other half goes on and comes back, so that the server and
    this process work at the same time. The next group is made ready as soon as its half is there.
    """

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._waiting: deque[_Waiting] = deque()
        self._ready: _Group | None = None
        self._half = MAX_APPENDS
        self._worker: asyncio.Task[None] | None = None

    def submit(self, append: Append) -> asyncio.Future[Outcome]:
        """Queue an append and return its outcome to be. Cancelling that does not take the append back."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(append, future))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work(), name="twofold-postgres-lane")
        elif self._ready is None and len(self._waiting) >= self._half:
            self._ready = self._next_group(self._half)
            with suppress(ValueError, struct.error):  # it will be raised again where somebody waits for it
                _ = self._ready.batch.arguments
        return future

    async def drain(self) -> None:
        """Return when all appends have their outcome."""
        while self._worker is not None:
            await asyncio.wait({self._worker})

    async def _work(self) -> None:
        answered: list[tuple[_Waiting, Outcome | Exception]] = []
        try:
            while self._waiting or self._ready:
                group = self._ready or self._next_group(_half(len(self._waiting) + len(answered)))
                self._ready = None
                self._half = _half(len(group.members) + len(self._waiting) + len(answered))
                if answered:
                    committing = asyncio.create_task(self._commit(group))
                    _resolve(answered)  # these go on behind the call to the server, which is on its way first
                    answered = await committing
                else:
                    answered = await self._commit(group)
                if not (self._waiting or self._ready):
                    _resolve(answered)
                    answered, self._half = [], MAX_APPENDS
                    await asyncio.sleep(0)  # those who were just answered may come again, as a group
        finally:
            self._worker = None

    async def _commit(self, group: _Group) -> list[tuple[_Waiting, Outcome | Exception]]:
        try:
            return list(zip(group.members, await self._committer.commit(group.batch), strict=True))
        except Exception as error:  # a defect of ours must not leave anybody waiting for ever
            log.exception("a batch of %d appends failed in an unexpected way", len(group.members))
            return [(each, OutcomeUnknownError(f"unexpected: {error!r}")) for each in group.members]

    def _next_group(self, limit: int) -> _Group:
        """Take from the front, up to the first append that shares an id with an earlier one of the group."""
        members: list[_Waiting] = []
        ids: set[bytes] = set()
        waiting, room, space = self._waiting, MAX_EVENTS, MAX_BYTES
        while waiting and len(members) < min(limit, MAX_APPENDS):
            append = waiting[0].append
            own = [event[0] for event in append.events]
            if append.command:
                own.append(append.command.command_id)
            for event in append.events:
                space -= len(event[5])
            room -= len(append.events)
            if members and (room < 0 or space < 0 or not ids.isdisjoint(own)):
                break
            ids.update(own)
            members.append(waiting.popleft())
        return _Group(members, Batch([member.append for member in members]))


def _half(callers: int) -> int:
    return max((callers + 1) // 2, MIN_APPENDS)


def _resolve(answered: list[tuple[_Waiting, Outcome | Exception]]) -> None:
    for (_, future), outcome in answered:
        if future.done():  # its caller was cancelled
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
