"""Reading one's own writes over HTTP, on any process, with endpoints that know nothing of it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi import FastAPI, Response
from twofold.application import Application
from twofold.errors import InvalidTokenError, StaleReadError, StorageError, VersionMismatchError
from twofold.fastapi.live import Source
from twofold.fastapi.preconditions import FailedPreconditionError, InvalidPreconditionError, etag, expected_version
from twofold.fastapi.problems import answer_with, problem
from twofold.fastapi.shutdown import ending
from twofold.fastapi.tokens import Tokens
from twofold.messages.session import Session, Written, session
from twofold.messages.stream import ANY, ExpectedVersion

log = logging.getLogger(__name__)

TOKEN = "Consistency-Token"  # noqa: S105 - it is no secret
COOKIE = "consistency_token"
STALENESS = "Consistency"
MAX_WAIT = 30.0
"""Seconds that a client can make a query wait, unless another limit is given."""

_REFUSALS: Mapping[type[Exception], tuple[int, str]] = {
    InvalidTokenError: (400, TOKEN),
    InvalidPreconditionError: (400, "If-Match"),
    FailedPreconditionError: (412, "If-Match"),
    StorageError: (503, ""),
}
_SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
_WAIT = re.compile(r'(?:^|,)\s*wait\s*=\s*"?(\d{1,9})"?\s*(?=[;,]|$)', re.IGNORECASE)


def add_consistency(api: FastAPI, app: Application, *, cookie: bool = False, max_wait: float = MAX_WAIT) -> None:
    """Let clients read what they have written, on any process, and tell them when an answer is stale.

    - The response to a request that executed a command carries a `Consistency-Token`, and as `ETag` the version of
      its stream. A request that sends the token back is answered from read models that show what was written.
    - `If-Match` with such an `ETag` makes the first command of a request fail with 412 if the stream has moved on.
    - `Prefer: wait=<seconds>` says how long the client will wait for its read models.
    - An answer that a query's policy lets be stale says so: `Consistency: stale; age=<seconds>`. A query that is
      refused instead is answered with 503 and `Retry-After`.
    - A token that is damaged, from another log or from the future is answered with 400.

    Args:
        api: the FastAPI application.
        app: the application whose buses its endpoints use.
        cookie: whether the token is set as a cookie, too, so that browsers send it back by themselves.
        max_wait: seconds that a client can make a query wait.
    """
    for error, status in ((StaleReadError, 503), (VersionMismatchError, 412), (InvalidTokenError, 400)):
        api.exception_handlers.setdefault(error, answer_with(status))
    tokens, closing = Tokens(app.store), asyncio.Event()
    api.state.twofold_live_answers = Source(app.queries, tokens, closing)
    api.add_middleware(ConsistencyMiddleware, tokens=tokens, closing=closing, cookie=cookie, max_wait=max_wait)


class ConsistencyMiddleware:
    """ASGI middleware that gives each request a session; see `add_consistency`."""

    def __init__(self, app: ASGIApp, tokens: Tokens, closing: asyncio.Event, *, cookie: bool, max_wait: float) -> None:
        self._app = app
        self._tokens = tokens
        self._closing = closing
        self._cookie = cookie
        self._max_wait = max_wait

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "lifespan":
            with ending(self._closing):
                await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._handle(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        token, preferred = self._token(headers), _WAIT.search(",".join(headers.getlist("prefer")))
        try:
            written = await self._tokens.read(token) if token else Written()
            expected = _expected_version(scope["method"], headers)
        except tuple(_REFUSALS) as error:
            await self._refusal(error, scope["path"], headers)(scope, receive, send)
            return
        wait = min(float(preferred[1]), self._max_wait) if preferred else None
        with session(written, wait=wait, expected_version=expected) as own:

            async def marked(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _mark_answers(MutableHeaders(scope=message), own)
                    await self._mark_commands(MutableHeaders(scope=message), own, scope, message["status"])
                await send(message)

            await self._app(scope, receive, marked)

    def _token(self, headers: Headers) -> str | None:
        if self._cookie and TOKEN not in headers:
            return cookie_parser(headers.get("cookie", "")).get(COOKIE)
        return headers.get(TOKEN)

    def _refusal(self, error: Exception, path: str, headers: Headers) -> Response:
        status, field = next(_REFUSALS[cls] for cls in type(error).__mro__ if cls in _REFUSALS)
        fields = [(field, str(error))] if field else []
        retry = {"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
        refusal = problem(status, str(error), kind=type(error).__name__, fields=fields, instance=path, headers=retry)
        if field == TOKEN and TOKEN not in headers:
            refusal.delete_cookie(COOKIE)  # a browser would send it for ever
        return refusal

    async def _mark_commands(self, headers: MutableHeaders, own: Session, scope: Scope, status: int) -> None:
        """Say what was written. The commands are durable by now: nothing that fails here may make them look failed."""
        if own.receipt is None:
            return
        if own.receipt.version and status < 300:
            headers.setdefault("ETag", etag(own.receipt.version))
        try:
            token = await self._tokens.write(own.written)
        except StorageError as error:
            log.warning("no consistency token for %s: %s", scope["path"], error)
            return
        if token:
            headers[TOKEN] = token
        if token and self._cookie:
            cookie = Response()
            secure = scope["scheme"] == "https"
            cookie.set_cookie(COOKIE, token, httponly=True, samesite="lax", secure=secure)
            headers.append("Set-Cookie", cookie.headers["set-cookie"])


def _mark_answers(headers: MutableHeaders, own: Session) -> None:
    """Say how good an answer is. RFC 9111 did away with `Warning`, and `Age` would say that a cache has answered."""
    if not own.asked:
        return
    headers.add_vary_header(TOKEN)
    if own.wait is not None:
        headers["Preference-Applied"] = f"wait={own.wait:.0f}"
    if own.stale:
        age = "" if own.age is None else f"; age={own.age.total_seconds():.3f}"
        headers[STALENESS] = f"stale{age}"
        headers.setdefault("Cache-Control", "no-store")


def _expected_version(method: str, headers: Headers) -> ExpectedVersion:
    sent = headers.get("if-match")
    return ANY if sent is None or method in _SAFE else expected_version(sent)
