"""Watched answers: server-sent events that push a query's answer whenever its read models change it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Annotated, Any, NamedTuple

from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import TypeAdapter
from starlette.types import Receive, Scope, Send

from fastapi import Depends, Header, Request
from twofold.errors import InvalidTokenError, StorageError
from twofold.fastapi.tokens import Tokens
from twofold.messages.query import Answer, Query
from twofold.messages.session import WriteToken
from twofold.queries.bus import QueryBus
from twofold.queries.shared_looks import SharedLooks
from twofold.queries.watch import watch
from twofold.tasks import end

log = logging.getLogger(__name__)

RETRY = 1000
"""Milliseconds after which a browser connects again."""
FAREWELL = 1.0
"""Seconds that the last bytes of a stream may take when the server ends; a client that reads nothing costs them."""
HEARTBEAT = format_sse_event(comment="nothing new")


class Source(NamedTuple):
    """Where an application's watched answers come from; kept by `add_consistency`."""

    queries: QueryBus
    tokens: Tokens
    closing: asyncio.Event
    looks: SharedLooks
    heartbeat: float
    """Seconds after which a line is sent though nothing has changed, so that no proxy takes the connection for dead."""


class WatchedAnswers:
    """Makes the responses that push answers to one client. See `Watch`."""

    def __init__(self, source: Source, last_event_id: str | None) -> None:
        self._queries, self._tokens, self._closing, self._looks, self._heartbeat = source
        self._last_event_id = last_event_id

    async def respond(self, query: Query[Any], model: Any) -> WatchResponse:
        """Return the response that pushes the answer to a query, and every next one that differs from it.

        Args:
            query: the question.
            model: what an answer is sent as, such as `OrderOut | None`.

        Raises:
            HandlerNotFoundError: no handler is registered for the query.
            StorageError: the database failed.
        """
        self._queries.check(query)  # what is wrong with the query is told now
        seen = await self._seen()
        answers = watch(self._queries, query, after=seen.position, heartbeat=self._heartbeat, looks=self._looks)
        return WatchResponse(self._events(answers, TypeAdapter(model)), self._closing)

    async def _seen(self) -> WriteToken:
        """Return what the client saw last; nothing, if its id does not fit: a browser would send that id for ever."""
        await self._tokens.check_storage()
        try:
            return await self._tokens.read(self._last_event_id) if self._last_event_id else WriteToken()
        except InvalidTokenError:
            return WriteToken()

    async def _events(
        self, answers: AsyncGenerator[Answer[Any] | None], adapter: TypeAdapter[Any]
    ) -> AsyncGenerator[bytes]:
        """Ask for the next answer only when the client has taken the last one: a slow one gets the latest, later."""
        try:
            async with aclosing(answers):
                yield format_sse_event(retry=RETRY)
                async for answer in answers:
                    yield (HEARTBEAT if answer is None else await self._event(answer, adapter))
        except StorageError as error:
            log.warning("a stream of watched answers ends, its client will come back: %s", error)

    async def _event(self, answer: Answer[Any], adapter: TypeAdapter[Any]) -> bytes:
        value = adapter.validate_python(answer.value, from_attributes=True)
        return format_sse_event(
            data_str=adapter.dump_json(value).decode(),
            event="stale" if answer.stale else None,
            id=await self._tokens.write(WriteToken(answer.position, None)),
        )


class WatchResponse(StreamingResponse):
    """A stream of events that ends when its client leaves or the server ends, whichever comes first, without a word.

    Let the route name it, for OpenAPI: `@api.get(…, response_class=WatchResponse)`.

    Args:
        events: what is sent.
        closing: set when the server ends.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes], closing: asyncio.Event, status_code: int = 200) -> None:
        super().__init__(events, status_code, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._events = events
        self._closing = closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        stream = asyncio.create_task(self.stream_response(send))
        left, closing = map(asyncio.create_task, (self.listen_for_disconnect(receive), self._closing.wait()))
        async with aclosing(self._events):
            try:
                await asyncio.wait([stream, left, closing], return_when=asyncio.FIRST_COMPLETED)
            finally:
                # Cancelled once, and waited for: a query that is cancelled again and again loses its connection.
                await end(left, closing, stream)
        if stream.cancelled():
            with suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL):
                    await send({"type": "http.response.body", "body": b""})
        elif not isinstance(stream.exception(), OSError):  # how newer servers say that the client has left
            stream.result()


def _watched_answers(
    request: Request,
    last_event_id: Annotated[
        str | None, Header(description="Where to go on: the `id` of the last event. One that does not fit is ignored.")
    ] = None,
) -> WatchedAnswers:
    try:
        return WatchedAnswers(request.app.state.twofold_watched_answers, last_event_id)
    except AttributeError:
        raise RuntimeError("watched answers need add_consistency(api, app)") from None


Watch = Annotated[WatchedAnswers, Depends(_watched_answers)]
"""Watched answers as an endpoint's parameter: `return await watch.respond(GetOrder(id), OrderOut)`.

The response is a stream of server-sent events: the answer at once, and again whenever it has changed; `event: stale`
if it does not show what it should. Each has an `id` with which a client that was cut off goes on, at any process.
"""
