"""Watching a query: the answer, and every next one that differs from it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Collection
from typing import TypeVar

from twofold.errors import StaleReadError
from twofold.messages.answer import Answer
from twofold.messages.query import Query
from twofold.messages.read_policy import ReadPolicy, WhenLate
from twofold.options import QueryOptions
from twofold.queries.bus import QueryBus
from twofold.queries.consistency import Progress, wait_for

R = TypeVar("R")


async def watch(
    queries: QueryBus,
    query: Query[R],
    *,
    after: int = 0,
    heartbeat: float = 15.0,
    options: QueryOptions = QueryOptions(),  # noqa: B008 - it is immutable
) -> AsyncGenerator[Answer[R] | None]:
    """Answer a query, and answer it again whenever its read models have changed the answer; without end.

    Answers are not kept: a watcher that takes them slowly misses some, and always gets the latest. To go on from one of
    them later, watch the query after its `position`.

    Args:
        queries: the bus.
        query: the question.
        after: the position of the answer that was seen last; the first one is given only if it is newer.
        heartbeat: seconds without a change after which None is given.
        options: how long to pause between two answers.

    Raises:
        TypeError: the query asks no read model.
        HandlerNotFoundError: no handler is registered for it.
        StorageError: the database failed.
        Exception: whatever the handler raises, unchanged.
    """
    policy, shown = ReadPolicy(heartbeat, WhenLate.ANSWER_STALE), None
    answer, reads = await queries.ask_where(query, policy=policy)
    if not reads:
        raise TypeError(f"{type(query).__name__} reads no projection, so that nothing tells when its answer changes")
    if answer.position > after or not after:
        after, shown = max(answer.position, after), (answer.value, answer.stale)
        yield answer
    while True:
        if not await _moved(reads, after, heartbeat):
            yield None
            continue
        looked = time.monotonic()
        answer, reads = await queries.ask_where(query, after=after, policy=policy)
        after = max(answer.position, after)
        if shown != (answer.value, answer.stale):
            shown = (answer.value, answer.stale)
            yield answer
        await asyncio.sleep(looked + options.watch_pause - time.monotonic())


async def _moved(reads: Collection[Progress], after: int, patience: float) -> bool:
    """Wait until all read models have passed a position; return whether they have in time."""
    try:
        await wait_for(reads, after + 1, time.monotonic() + patience)
    except StaleReadError:
        return False
    return True
