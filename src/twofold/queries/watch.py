"""Live queries: the answer, and every next one that differs from it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import TypeVar

from twofold.errors import StaleReadError
from twofold.messages.answer import Answer
from twofold.messages.query import Query
from twofold.messages.read_policy import Policy, WhenLate
from twofold.queries.bus import QueryBus
from twofold.queries.consistency import reached_by

R = TypeVar("R")

PACE = 0.05
"""Seconds between two looks of one follower, however fast its read models change."""


async def follow(
    queries: QueryBus, query: Query[R], *, after: int = 0, heartbeat: float = 15.0, pace: float = PACE
) -> AsyncGenerator[Answer[R] | None]:
    """Answer a query, and answer it again whenever its read models have changed the answer; without end.

    It keeps no answers: who takes them slowly misses some, and always gets the latest. To go on from one of them later,
    follow the query after its `position`.

    Args:
        queries: the bus.
        query: the question.
        after: the position of the answer that was seen last; the first one is given only if it is newer.
        heartbeat: seconds without a change after which None is given.
        pace: seconds between two looks, at least.

    Raises:
        TypeError: the query reads no projection.
        HandlerNotFoundError: no handler is registered for it.
        StorageError: the database failed.
        Exception: whatever the handler raises, as it is.
    """
    progress, reads = queries.progress, queries.reads(query)
    if progress is None or not reads:
        raise TypeError(f"{type(query).__name__} reads no projection, so that nothing tells when its answer changes")
    policy, shown = Policy(heartbeat, WhenLate.ANSWER_STALE), None
    patience, unseen = 0.0, not after  # at first, only look where the read models are
    while True:
        try:
            await progress.wait(after + 1, patience, reads)
        except StaleReadError:
            if patience:
                yield None
        if unseen or reached_by(progress, reads) > after:
            looked = time.monotonic()
            answer = await queries.ask(query, after=after, policy=policy)
            unseen, after = False, max(answer.position, after)
            if shown != (answer.value, answer.stale):
                shown = (answer.value, answer.stale)
                yield answer
            await asyncio.sleep(looked + pace - time.monotonic())
        patience = heartbeat
