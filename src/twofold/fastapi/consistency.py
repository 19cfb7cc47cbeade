"""Reading one's own writes over HTTP, on any process, with endpoints that know nothing of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi import FastAPI
from twofold.application import Application
from twofold.arguments import check_instance, check_number
from twofold.errors import (
    InvalidTokenError,
    OutcomeUnknownError,
    StaleReadError,
    StorageError,
    VersionMismatchError,
)
from twofold.fastapi.answering import REFUSALS, SAFE, Answering, refusal
from twofold.fastapi.cookies import TokenCookie, token_in
from twofold.fastapi.headers import all_of, headers_of, text_of
from twofold.fastapi.openapi import describe_command_ids, describe_headers
from twofold.fastapi.outages import PATIENCE, Bounded, Outages
from twofold.fastapi.preconditions import expected_version
from twofold.fastapi.problems import answer_with
from twofold.fastapi.shutdown import GRACE, ending
from twofold.fastapi.tokens import Tokens
from twofold.fastapi.watch import Source
from twofold.messages.context import leave_context
from twofold.messages.session import NOTHING_WRITTEN, Session, WriteToken, enter_session
from twofold.messages.stream import ANY, ExpectedVersion
from twofold.queries.shared_looks import SharedLooks

MAX_WAIT = 30.0
"""Seconds that a client can make a query wait, unless another limit is given."""

_ANSWERS: Mapping[type[Exception], int] = {
    InvalidTokenError: 400,
    VersionMismatchError: 412,
    OutcomeUnknownError: 503,
    StaleReadError: 503,
    StorageError: 503,
}
"""How errors of endpoints are answered, unless the application says so itself."""
_REFUSED = tuple(REFUSALS)
_TOKEN = b"consistency-token"
_WAIT = re.compile(r'(?:^|,)\s*wait\s*=\s*"?(\d{1,9})"?\s*(?=[;,]|$)', re.IGNORECASE)


def add_consistency(
    api: FastAPI,
    app: Application,
    *,
    cookie: TokenCookie | bool = False,
    max_wait: float = MAX_WAIT,
    heartbeat: float = 15.0,
    grace: float | None = GRACE,
) -> None:
    """Let clients read what they have written, on any process, and tell them when an answer is stale.

    - The response to a request that executed a command carries a `Consistency-Token`, and as `ETag` the version of
      its stream. A request that sends the token back is answered from read models that show what was written.
    - `If-Match` with such an `ETag` makes the first command of a request fail with 412 if the stream has moved on.
    - `Prefer: wait=<seconds>` says how long the client will wait for its read models.
    - An answer that a query's policy lets be stale says so: `Consistency: stale; age=<seconds>`. A query that is
      refused instead is answered with 503 and `Retry-After`.
    - A token that is damaged, from another log, of events that were lost in a restore or from the future is answered
      with 400. In a cookie, it is ignored and deleted, since the browser's user can do nothing about it.
    - While the database is away, every request is answered with 503 within five seconds, or within its own `wait`.
    - `GET` with `If-None-Match` is answered with 304 if the endpoint sets the same `ETag` again, and `HEAD` like `GET`.
    - OpenAPI names these headers at every operation.

    Args:
        api: the FastAPI application.
        app: the application whose buses its endpoints use.
        cookie: the token is set as a cookie, too, so that browsers send it back by themselves; `True` for one of the
            default name and path.
        max_wait: seconds that a client can make a query wait.
        heartbeat: seconds after which a stream of watched answers sends a line though nothing has changed. Longer than
            a proxy before the server waits, and it takes the stream for dead.
        grace: seconds that requests get to end when the server is told to, if it is uvicorn and was given no
            `--timeout-graceful-shutdown`: it would wait for ever for a body that does not come. None leaves it so.
    """
    check_instance("api", api, FastAPI)
    check_instance("app", app, Application)
    check_instance("cookie", cookie, (TokenCookie, bool))
    check_number("max_wait", max_wait)
    check_number("heartbeat", heartbeat)
    if grace is not None:
        check_number("grace", grace)
    for error, status in _ANSWERS.items():
        api.exception_handlers.setdefault(error, answer_with(status))
    tokens, closing = Tokens(app.store._of_all), asyncio.Event()
    api.state.twofold_watched_answers = Source(
        app.queries, tokens, closing, SharedLooks(app.store._of_all.log), heartbeat
    )
    own_cookie = TokenCookie() if cookie is True else cookie or None
    api.add_middleware(
        ConsistencyMiddleware, tokens=tokens, closing=closing, cookie=own_cookie, max_wait=max_wait, grace=grace
    )
    describe_headers(api)
    describe_command_ids(api)


class ConsistencyMiddleware:
    """ASGI middleware that gives each request a session; see `add_consistency`."""

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens,
        closing: asyncio.Event,
        *,
        cookie: TokenCookie | None,
        max_wait: float,
        grace: float | None,
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._closing = closing
        self._cookie = cookie
        self._max_wait = max_wait
        self._grace = grace
        self._outages = Outages(tokens.check_storage)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http":
            await self._handle(scope, receive, send)
        elif scope["type"] == "lifespan":
            with ending(self._closing, self._grace):
                await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        wait = self._wait(scope) if b"prefer" in headers else None
        answer = Answering(scope, receive, send, headers, self._tokens, self._cookie)
        with Bounded(self._outages, PATIENCE if wait is None else min(wait, PATIENCE), answer.refuse) as bounded:
            answer.let_go = bounded.let_go
            try:
                written, answer.has_bad_cookie = await self._written(headers)
                expected = _expected_version(scope["method"], headers)
            except _REFUSED as error:
                await refusal(error, scope["path"])(scope, receive, answer)
                return
            answer.session = Session(written, wait, expected)
            token = enter_session(answer.session)
            try:
                await self._app({**scope, "method": "GET"} if answer.is_head else scope, receive, answer)
            finally:
                leave_context(token)

    def _wait(self, scope: Scope) -> float | None:
        """Return how many seconds the client will wait for read models, if it says so."""
        preferred = _WAIT.search(all_of(scope, b"prefer"))
        return min(float(preferred[1]), self._max_wait) if preferred else None

    async def _written(self, headers: Mapping[bytes, bytes]) -> tuple[WriteToken, bool]:
        """Return what the client says that it has written, and whether it sent a cookie that is no good."""
        if (sent := text_of(headers, _TOKEN)) is not None:
            return await self._tokens.read(sent), False
        if not (token := token_in(self._cookie, headers)):
            return NOTHING_WRITTEN, False
        try:
            return await self._tokens.read(token), False
        except InvalidTokenError:
            return NOTHING_WRITTEN, True


def _expected_version(method: str, headers: Mapping[bytes, bytes]) -> ExpectedVersion:
    sent = text_of(headers, b"if-match")
    return ANY if sent is None or method in SAFE else expected_version(sent)
