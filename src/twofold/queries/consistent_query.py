"""Queries after commands of which only the stream and its version are known."""

from __future__ import annotations

import time
from typing import TypeVar

from twofold.arguments import check_instance, check_number, check_text, check_whole
from twofold.log.event_store import EventStore
from twofold.messages.query import Answer, Query
from twofold.messages.read_policy import ReadPolicy, WhenLate
from twofold.queries.bus import QueryBus

R = TypeVar("R")


class ConsistentQueryHandler:
    """Answers queries so that they show a version of a stream, whichever process wrote it.

    With the receipt of the command, `QueryBus.ask(query, after=receipt)` does better: it knows which read models are
    concerned.

    Args:
        queries: the bus.
        store: where the events are.
    """

    def __init__(self, queries: QueryBus, store: EventStore) -> None:
        check_instance("queries", queries, QueryBus)
        check_instance("store", store, EventStore)
        self._queries = queries
        self._store = store

    async def query_after_command(
        self, query: Query[R], expected_version: int, stream_id: str, timeout: float = 5.0
    ) -> Answer[R]:
        """Answer a query once its read models show a version of a stream; marked as stale if that takes too long.

        Args:
            query: the question.
            expected_version: the version of the stream that the answer must show. It need not be written yet.
            stream_id: the stream, such as "Order-7f3".
            timeout: seconds to wait, at most, for the version to be written and to be shown.

        Raises:
            HandlerNotFoundError: no handler is registered for the query.
            TypeError, ValueError: an argument is of another type, or negative.
            StorageError: the database failed.
            Exception: whatever the handler raises, unchanged.
        """
        check_whole("expected_version", expected_version)
        check_text("stream_id", stream_id)
        check_number("timeout", timeout)
        self._queries.check(query)
        deadline = time.monotonic() + timeout
        position = await self._position_of(stream_id, expected_version, deadline)
        remaining = max(deadline - time.monotonic(), 0.0)
        policy = ReadPolicy(remaining, WhenLate.ANSWER_STALE)
        answer = await self._queries.ask(query, after=position or 0, timeout=remaining, policy=policy)
        return answer if position is not None else Answer(answer.value, stale=True, age=answer.age)

    async def _position_of(self, stream_id: str, version: int, deadline: float) -> int | None:
        """Return the position of a version, waiting for it; None if it does not come in time."""
        log, own = self._store._of_all.log, self._store._own_stream(stream_id)
        if version <= 0:
            return 0
        while True:
            head = await log.head()
            if rows := await log.read_stream(own, after=version - 1, limit=1):
                return rows[0].position
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return None
            await log.wait(head, remaining)
