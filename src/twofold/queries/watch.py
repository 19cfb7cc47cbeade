"""Watching a query: the answer, and every next one that differs from it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Collection
from contextlib import closing, nullcontext
from typing import TypeVar

from twofold.arguments import check_instance, check_number, check_whole
from twofold.messages.query import Answer, Query
from twofold.messages.read_policy import ReadPolicy, WhenLate
from twofold.messages.session import current_session
from twofold.options import QueryOptions
from twofold.queries.bus import QueryBus
from twofold.queries.consistency import Asking, Progress
from twofold.queries.shared_looks import Follower, SharedLooks
from twofold.tenants import on_behalf

R = TypeVar("R")


async def watch(
    queries: QueryBus,
    query: Query[R],
    *,
    after: int = 0,
    heartbeat: float = 15.0,
    options: QueryOptions = QueryOptions(),  # noqa: B008 - it is immutable
    looks: SharedLooks | None = None,
) -> AsyncGenerator[Answer[R] | None]:
    """Answer a query, and answer it again whenever its read models have changed the answer; without end.

    Answers are not kept: a watcher that takes them slowly misses some, and always gets the latest. To go on from one of
    them later, watch the query after its `position`.

    Args:
        queries: the bus.
        query: the question.
        after: the position of the answer that was seen last; the first one is given only if it is newer.
        heartbeat: seconds without a change after which None is given. The query is asked again before, unless shared
            looks would have told of any change, and the answer is neither stale nor late.
        options: how long to pause between two answers.
        looks: shared with other watchers of the same application, to be spared what would show nothing new.

    Raises:
        TypeError: the query asks no read model, or an argument is of another type.
        HandlerNotFoundError: no handler is registered for it.
        StorageError: the database failed.
        Exception: whatever the handler raises, unchanged.
    """
    check_instance("queries", queries, QueryBus)
    queries.check(query)
    check_whole("after", after)
    check_number("heartbeat", heartbeat)
    check_instance("options", options, QueryOptions)
    if looks is not None:
        check_instance("looks", looks, SharedLooks)
    policy, session = ReadPolicy(heartbeat, WhenLate.ANSWER_STALE), current_session()
    asked = (query, session.written if session else None, on_behalf())

    async def look() -> tuple[Answer[R], Asking]:
        return await queries.ask_where(query, after=after, policy=policy, is_watched=True)

    answer, asking = await look()
    shown = None
    if not asking.asked:
        raise TypeError(f"{type(query).__name__} reads no projection, so that nothing tells when its answer changes")
    if answer.position > after or not after:
        after, shown = max(answer.position, after), (answer.value, answer.stale)
        yield answer
    with closing(looks.follower()) if looks else nullcontext() as follower:
        while True:
            end = await _moved(asking, after, heartbeat, follower)
            if end is None and follower and not answer.stale and not await _is_late(asking):
                yield None  # each change would have been told
                continue
            looked = time.monotonic()
            answer, asking = await (looks.ask(asked, after if end is None else end, look) if looks else look())
            after = max(answer.position, after)
            if shown != (answer.value, answer.stale):
                shown = (answer.value, answer.stale)
                yield answer
            elif end is None:
                yield None
            await asyncio.sleep(looked + options.watch_pause - time.monotonic())


async def _moved(asking: Asking, after: int, heartbeat: float, follower: Follower | None) -> int | None:
    """Wait until the answer may have changed; return the position that was passed then, or None after a heartbeat."""
    if follower:
        return await follower.news(asking, after, heartbeat)
    end = await _passed(asking.asked.values(), after + 1, time.monotonic() + heartbeat)
    return end if end > after else None


async def _is_late(asking: Asking) -> bool:
    return any([await each.is_late() for each in asking.asked.values()])


async def _passed(reads: Collection[Progress], position: int, deadline: float) -> int:
    """Wait until all read models have passed a position, as this process knows; return how far they have come."""
    await asyncio.gather(*(each.approach(position, deadline) for each in reads))
    return min(each.reached for each in reads)
