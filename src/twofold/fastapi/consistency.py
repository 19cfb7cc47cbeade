"""Reading one's own writes over HTTP, on any process, with endpoints that know nothing of it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi import FastAPI, Response
from twofold.application import Application
from twofold.arguments import check_instance, check_number, check_text
from twofold.errors import (
    InvalidTokenError,
    OutcomeUnknownError,
    StaleReadError,
    StorageError,
    StorageUnavailableError,
    VersionMismatchError,
)
from twofold.fastapi.openapi import describe_headers
from twofold.fastapi.outages import PATIENCE, Bounded, Outages
from twofold.fastapi.preconditions import (
    FailedPreconditionError,
    InvalidPreconditionError,
    etag,
    expected_version,
    is_known,
)
from twofold.fastapi.problems import answer_with, problem, shown_text
from twofold.fastapi.shutdown import GRACE, ending
from twofold.fastapi.tokens import Tokens
from twofold.fastapi.watch import Source
from twofold.messages.context import leave_context
from twofold.messages.receipt import Receipt
from twofold.messages.session import NOTHING_WRITTEN, Session, WriteToken, enter_session
from twofold.messages.stream import ANY, ExpectedVersion
from twofold.queries.shared_looks import SharedLooks

log = logging.getLogger(__name__)

TOKEN = "Consistency-Token"  # noqa: S105 - it is no secret
STALENESS = "Consistency"
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
_REFUSALS: Mapping[type[Exception], tuple[int, str]] = {
    InvalidTokenError: (400, TOKEN),
    InvalidPreconditionError: (400, "If-Match"),
    FailedPreconditionError: (412, "If-Match"),
    OutcomeUnknownError: (503, ""),
    StorageError: (503, ""),
}
_SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
_WAIT = re.compile(r'(?:^|,)\s*wait\s*=\s*"?(\d{1,9})"?\s*(?=[;,]|$)', re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class TokenCookie:
    """The cookie that carries a browser's consistency token.

    Two applications on one host name need two names or two paths; else each overwrites the other's token.

    Raises:
        ValueError: the name or the path holds characters that cookies do not take.
    """

    name: str = "consistency_token"
    path: str = "/"

    def __post_init__(self) -> None:
        check_text("name", self.name, may_be_empty=True)
        check_text("path", self.path)
        if not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", self.name, re.ASCII):
            raise ValueError(f"a cookie cannot have the name {self.name!r}; use letters, digits, _ and -")
        if not re.fullmatch(r"/[\x20-\x3a\x3c-\x7e]*", self.path):
            raise ValueError(f"a cookie cannot have the path {self.path!r}; it begins with / and holds no semicolon")


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
    tokens, closing = Tokens(app.store), asyncio.Event()
    api.state.twofold_watched_answers = Source(app.queries, tokens, closing, SharedLooks(app.store.log), heartbeat)
    own_cookie = TokenCookie() if cookie is True else cookie or None
    api.add_middleware(
        ConsistencyMiddleware, tokens=tokens, closing=closing, cookie=own_cookie, max_wait=max_wait, grace=grace
    )
    describe_headers(api)


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
        headers = Headers(scope=scope)
        wait = self._wait(headers)
        answer = Answering(scope, receive, send, headers, self._tokens, self._cookie)
        async with Bounded(self._outages, PATIENCE if wait is None else min(wait, PATIENCE), answer.refuse) as bounded:
            answer.let_go = bounded.let_go
            try:
                written, answer.has_bad_cookie = await self._written(headers)
                expected = _expected_version(scope["method"], headers)
            except tuple(_REFUSALS) as error:
                await _refusal(error, scope["path"])(scope, receive, answer)
                return
            answer.session = Session(written, wait, expected)
            token = enter_session(answer.session)
            try:
                await self._app({**scope, "method": "GET"} if answer.is_head else scope, receive, answer)
            finally:
                leave_context(token)

    def _wait(self, headers: Headers) -> float | None:
        """Return how many seconds the client will wait for read models, if it says so."""
        if "prefer" not in headers:
            return None
        preferred = _WAIT.search(",".join(headers.getlist("prefer")))
        return min(float(preferred[1]), self._max_wait) if preferred else None

    async def _written(self, headers: Headers) -> tuple[WriteToken, bool]:
        """Return what the client says that it has written, and whether it sent a cookie that is no good."""
        if TOKEN in headers:
            return await self._tokens.read(headers[TOKEN]), False
        cookies = headers.get("cookie") if self._cookie else None
        token = cookie_parser(cookies).get(self._cookie.name) if self._cookie and cookies else None
        try:
            return await self._tokens.read(token) if token else NOTHING_WRITTEN, False
        except InvalidTokenError:
            return NOTHING_WRITTEN, True


class Answering:
    """Sends the response to one request: marks its head, and leaves the body out where the client is not to get it.

    One object does all that, since each further wrapper of `send` costs every request a call for every message.

    Args:
        scope: of the request.
        receive: what the client sends.
        send: takes the messages of the response.
        headers: of the request.
        tokens: makes the token for what was written.
        cookie: in which that is set, too.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: Headers,
        tokens: Tokens,
        cookie: TokenCookie | None,
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._tokens = tokens
        self._cookie = cookie
        self.is_head = scope["method"] == "HEAD"
        self._if_none_match = headers.get("if-none-match") if scope["method"] in ("GET", "HEAD") else None
        self._has_no_body = self.is_head
        self._is_refused = False
        self.session: Session | None = None
        """That of the request, once it has one."""
        self.has_bad_cookie = False
        self.let_go: Callable[[], None]
        """Ends the watch over the request."""

    async def __call__(self, message: Message) -> None:
        """Send a message, unless the request was refused in the meantime."""
        if self._is_refused:
            return
        if message["type"] == "http.response.start":
            self.let_go()
            await self._start(message)
        elif not self._has_no_body:
            await self._send(message)

    async def refuse(self) -> None:
        """Answer that the database is away; what the endpoint sends later is dropped."""
        self._is_refused = True
        away: type[Exception] = StorageUnavailableError if self._scope["method"] in _SAFE else OutcomeUnknownError
        refusal = _refusal(away("the database has not answered"), self._scope["path"])
        await refusal(self._scope, self._receive, self._send)

    async def _start(self, message: Message) -> None:
        own = self.session
        if own is not None and (own.asked or own.receipt is not None or self.has_bad_cookie):
            await self._mark(message, own)
        if self._if_none_match is not None and is_known(message, self._if_none_match):
            self._has_no_body = True
        await self._send(message)
        if self._has_no_body:  # at once: to a stream without an end, this is the client that leaves
            await self._send({"type": "http.response.body", "body": b""})

    async def _mark(self, message: Message, own: Session) -> None:
        headers = MutableHeaders(scope=message)
        self._mark_answers(headers, own)
        token = await self._mark_commands(headers, own.receipt, own, message["status"]) if own.receipt else None
        if self._cookie and (token or self.has_bad_cookie):
            headers.append("Set-Cookie", _set_cookie(self._cookie, token, self._scope["scheme"]))

    async def _mark_commands(
        self, headers: MutableHeaders, receipt: Receipt[Any], own: Session, status: int
    ) -> str | None:
        """Say what was written. The commands are durable by now: nothing that fails here may make them look failed."""
        if receipt.version and status < 300:
            headers.setdefault("ETag", etag(receipt.version))
        try:
            token = await self._tokens.write(own.written)
        except StorageError as error:
            log.warning("no consistency token for %s: %s", self._scope["path"], error)
            return None
        if token:
            headers[TOKEN] = token
        return token

    def _mark_answers(self, headers: MutableHeaders, own: Session) -> None:
        """Say how good an answer is. RFC 9111 ended `Warning`, and `Age` would say that a cache has answered."""
        if not own.asked:
            return
        headers.add_vary_header(f"{TOKEN}, Cookie" if self._cookie else TOKEN)
        if own.wait is not None:
            headers["Preference-Applied"] = f"wait={own.wait:.0f}"
        if own.stale:
            age = "" if own.age is None else f"; age={own.age.total_seconds():.3f}"
            headers[STALENESS] = f"stale{age}"
            headers.setdefault("Cache-Control", "no-store")


def _refusal(error: Exception, path: str) -> Response:
    status, field = next(_REFUSALS[cls] for cls in type(error).__mro__ if cls in _REFUSALS)
    detail = shown_text(error, path)
    fields = [(field, detail)] if field else []
    retry = {"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return problem(status, detail, kind=type(error).__name__, fields=fields, instance=path, headers=retry)


def _set_cookie(cookie: TokenCookie, token: str | None, scheme: str) -> str:
    """Return the header that sets the cookie, or that deletes it if there is no token.

    Written by hand, as it goes with each command: a token needs no quotes, and the cookie lives as long as the browser.
    """
    life = "" if token else "expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; "
    secure = "; Secure" if scheme == "https" else ""
    return f"{cookie.name}={token or ''}; {life}HttpOnly; Path={cookie.path}; SameSite=lax{secure}"


def _expected_version(method: str, headers: Headers) -> ExpectedVersion:
    sent = headers.get("if-match")
    return ANY if sent is None or method in _SAFE else expected_version(sent)
