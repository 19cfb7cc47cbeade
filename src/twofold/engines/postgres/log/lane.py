"""The ordered lane: all that wait at one moment go as one group, and one group after the other."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

from twofold.engines.postgres.log.batch import Batch, Outcome
from twofold.engines.postgres.wire.arrays import UnfitError
from twofold.errors import OutcomeUnknownError, StorageUnavailableError
from twofold.options import PostgresOptions
from twofold.ports.event_log import Append
from twofold.tasks import is_failure

log = logging.getLogger(__name__)


class Committer(Protocol):
    """Where the lane leads to."""

    async def commit(self, batch: Batch) -> Sequence[Outcome | Exception]:
        """Return an outcome, or the error to raise, for each append."""


class _Waiting(NamedTuple):
    append: Append
    future: asyncio.Future[Outcome]
    ids: list[bytes]
    payload: int
    """Bytes."""
    since: float
    """By `time.monotonic`."""


class _Group(NamedTuple):
    members: list[_Waiting]
    batch: Batch


class Lane:
    """Hands appends over in groups, in the order in which they came.

    1. An append is queued, and its caller waits for its outcome.
    2. All that wait at one moment become one group, up to the first that shares an id with an earlier one, and go as
       one commit.
    3. With many callers, one half of them commits while the other half goes on and comes back, so that the server and
       this process work at the same time. The next group is made ready as soon as its half is there.
    4. Each caller gets the outcome of its own append, or its own error.
    5. If the server does not answer a group, those that have waited behind it for long are refused, not sent.
    """

    def __init__(self, committer: Committer, options: PostgresOptions) -> None:
        self._committer = committer
        self._options = options
        self._waiting: deque[_Waiting] = deque()
        self._ready: _Group | None = None
        self._half = options.max_group
        self._worker: asyncio.Task[None] | None = None

    def submit(self, append: Append) -> asyncio.Future[Outcome]:
        """Queue an append and return its outcome to be. Cancelling that does not take the append back."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        ids, payload = [], 0
        for event in append.events:  # here, so that what is wrong with an append is raised where it was made
            ids.append(event.event_id)
            payload += len(event.payload)
        if append.command:
            ids.append(append.command.command_id)
        self._waiting.append(_Waiting(append, future, ids, payload, time.monotonic()))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work(), name="twofold-postgres-lane")
        elif self._ready is None and len(self._waiting) >= self._half:
            self._ready = self._next_group(self._half)
            if not self._is_large(self._ready):
                with suppress(UnfitError):  # it will be raised again where its caller waits for it
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
                group = self._ready or self._next_group(self._half_of(len(self._waiting) + len(answered)))
                self._ready = None
                self._half = self._half_of(len(group.members) + len(self._waiting) + len(answered))
                if answered:
                    committing = asyncio.create_task(self._commit(group))
                    _resolve(answered)  # these go on behind the call to the server, which is on its way first
                    answered = await committing
                else:
                    answered = await self._commit(group)
                if isinstance(answered[-1][1], StorageUnavailableError | OutcomeUnknownError):
                    answered += self._overdue(answered[-1][1])
                if not (self._waiting or self._ready):
                    _resolve(answered)
                    answered, self._half = [], self._options.max_group
                    await asyncio.sleep(0)  # those who were just answered may come again, as a group
        finally:
            self._worker = None

    async def _commit(self, group: _Group) -> list[tuple[_Waiting, Outcome | Exception]]:
        try:
            if self._is_large(group):
                with suppress(UnfitError):  # raised again below
                    await asyncio.to_thread(getattr, group.batch, "arguments")
            return list(zip(group.members, await self._committer.commit(group.batch), strict=True))
        except BaseException as error:  # a defect of ours, or of the driver, must leave no caller waiting for ever
            if not is_failure(error):
                raise
            log.exception("a batch of %d appends failed in an unexpected way", len(group.members))
            return [(each, OutcomeUnknownError(f"unexpected: {error!r}")) for each in group.members]

    def _is_large(self, group: _Group) -> bool:
        """Return whether the event loop would stand still for long while it makes the arguments of a group."""
        payload = sum([each.payload for each in group.members])
        return group.batch.size > self._options.encoded_in_loop or payload > self._options.encoded_in_loop << 10

    def _overdue(self, failure: Exception) -> list[tuple[_Waiting, Outcome | Exception]]:
        """Refuse what has waited as long as an append may that was not sent, while the server did not answer others."""
        ready, self._ready = self._ready, None
        waiting = [*(ready.members if ready else ()), *self._waiting]
        began = time.monotonic() - self._options.unsent_timeout
        self._waiting = deque(each for each in waiting if each.since > began)
        text = f"nothing was stored, as PostgreSQL did not answer the appends before this one: {failure}"
        return [(each, StorageUnavailableError(text)) for each in waiting if each.since <= began]

    def _half_of(self, callers: int) -> int:
        return max((callers + 1) // 2, self._options.min_group)

    def _next_group(self, limit: int) -> _Group:
        """Take from the front, up to the first append that shares an id with an earlier one of the group."""
        members: list[_Waiting] = []
        ids: set[bytes] = set()
        waiting, room, space = self._waiting, self._options.max_group_events, self._options.max_group_bytes
        most = min(limit, self._options.max_group)
        while waiting and len(members) < most:
            append, _, own, payload, _ = waiting[0]
            space -= payload
            room -= len(append.events)
            if members and (room < 0 or space < 0 or not ids.isdisjoint(own)):
                break
            ids.update(own)
            members.append(waiting.popleft())
        return _Group(members, Batch([member.append for member in members]))


def _resolve(answered: list[tuple[_Waiting, Outcome | Exception]]) -> None:
    for waiting, outcome in answered:
        future = waiting.future
        if future.done():  # its caller was cancelled
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
