"""Live answers: server-sent events that push a query's answer whenever its read models change it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, NamedTuple

from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter

from fastapi import Depends, Header, Request
from twofold.errors import StorageError
from twofold.fastapi.tokens import Tokens
from twofold.messages.answer import Answer
from twofold.messages.query import Query
from twofold.messages.session import Written
from twofold.queries.bus import QueryBus
from twofold.queries.watch import follow

log = logging.getLogger(__name__)

HEARTBEAT = 15.0
"""Seconds after which a line is sent though nothing has changed, so that no proxy takes the connection for dead."""
RETRY = 1000
"""Milliseconds after which a browser connects again."""


class Source(NamedTuple):
    """Where an application's live answers come from; kept by `add_consistency`."""

    queries: QueryBus
    tokens: Tokens
    closing: asyncio.Event


class LiveAnswers:
    """Makes the responses that push answers to one client. See `Live`."""

    def __init__(self, source: Source, last_event_id: str | None) -> None:
        self._queries, self._tokens, self._closing = source
        self._last_event_id = last_event_id

    async def respond(self, query: Query[Any], model: Any) -> StreamingResponse:
        """Return the response that pushes the answer to a query, and every next one that differs from it.

        Args:
            query: the question.
            model: what an answer is sent as, such as `OrderOut | None`.

        Raises:
            InvalidTokenError: the `Last-Event-ID` is none that such a response has sent.
            HandlerNotFoundError: no handler is registered for the query.
            StorageError: the database failed.
        """
        seen = await self._tokens.read(self._last_event_id) if self._last_event_id else Written()
        self._queries.reads(query)  # what is wrong with the query is told now
        answers = follow(self._queries, query, after=seen.position, heartbeat=HEARTBEAT)
        return StreamingResponse(
            self._text(answers, TypeAdapter(model)),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def _text(self, answers: AsyncGenerator[Answer[Any] | None], adapter: TypeAdapter[Any]) -> AsyncIterator[str]:
        """Ask for the next answer only when the client has taken the last one: a slow one gets the latest, later."""
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            async with aclosing(answers):
                yield f"retry: {RETRY}\n\n"
                while (answer := await _next(answers, closing)) is not _END:
                    yield ": nothing new\n\n" if answer is None else await self._event(answer, adapter)
        except StorageError as error:
            log.warning("a stream of live answers ends, its client will come back: %s", error)
        finally:
            closing.cancel()

    async def _event(self, answer: Answer[Any], adapter: TypeAdapter[Any]) -> str:
        value = adapter.validate_python(answer.value, from_attributes=True)
        lines = ["event: stale"] if answer.stale else []
        if token := await self._tokens.write(Written(answer.position, None)):
            lines.append(f"id: {token}")
        return "\n".join([*lines, f"data: {adapter.dump_json(value).decode()}", "\n"])


_END: Any = object()


async def _next(answers: AsyncGenerator[Answer[Any] | None], closing: asyncio.Future[Any]) -> Answer[Any] | None:
    """Return the next answer, or `_END` when the server closes."""
    coming = asyncio.ensure_future(anext(answers))
    try:
        await asyncio.wait([coming, closing], return_when=asyncio.FIRST_COMPLETED)
        return coming.result() if coming.done() else _END
    finally:
        if coming.cancel():
            await asyncio.wait([coming])


def _live_answers(
    request: Request,
    last_event_id: Annotated[str | None, Header(description="Where to go on: the `id` of the last event.")] = None,
) -> LiveAnswers:
    try:
        return LiveAnswers(request.app.state.twofold_live_answers, last_event_id)
    except AttributeError:
        raise RuntimeError("live answers need add_consistency(api, app)") from None


Live = Annotated[LiveAnswers, Depends(_live_answers)]
"""Live answers as an endpoint's parameter: `return await live.respond(GetOrder(id), OrderOut)`.

The response is a stream of server-sent events: the answer at once, and again whenever it has changed; `event: stale`
if it does not show what it should. Each has an `id` with which a client that was cut off goes on, at any process.
"""
