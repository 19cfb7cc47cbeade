"""The response to one request: its head is marked with what was written and with how good the answer is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from fastapi import Response
from twofold.errors import InvalidTokenError, OutcomeUnknownError, StorageError, StorageUnavailableError
from twofold.fastapi.cookies import TokenCookie, set_cookie
from twofold.fastapi.headers import text_of
from twofold.fastapi.preconditions import FailedPreconditionError, InvalidPreconditionError, etag, is_known
from twofold.fastapi.problems import problem, shown_code, shown_text
from twofold.fastapi.tokens import Tokens
from twofold.messages.receipt import Receipt
from twofold.messages.session import Session

log = logging.getLogger(__name__)

TOKEN = "Consistency-Token"  # noqa: S105 - it is no secret
STALENESS = "Consistency"
SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
"""The methods of requests that change nothing."""

REFUSALS: Mapping[type[Exception], tuple[int, str]] = {
    InvalidTokenError: (400, TOKEN),
    InvalidPreconditionError: (400, "If-Match"),
    FailedPreconditionError: (412, "If-Match"),
    OutcomeUnknownError: (503, ""),
    StorageError: (503, ""),
}
"""How a request is answered that does not get as far as its endpoint: the status, and the header that is at fault."""


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

    __slots__ = (
        "_cookie", "_has_no_body", "_if_none_match", "_is_refused", "_receive", "_scope", "_send", "_tokens",
        "has_bad_cookie", "is_head", "let_go", "session",
    )  # fmt: skip

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: Mapping[bytes, bytes],
        tokens: Tokens,
        cookie: TokenCookie | None,
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._tokens = tokens
        self._cookie = cookie
        self.is_head = scope["method"] == "HEAD"
        self._if_none_match = text_of(headers, b"if-none-match") if scope["method"] in ("GET", "HEAD") else None
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
        away: type[Exception] = StorageUnavailableError if self._scope["method"] in SAFE else OutcomeUnknownError
        response = refusal(away("the database has not answered"), self._scope["path"])
        await response(self._scope, self._receive, self._send)

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
        if own.asked:
            self._mark_answers(headers, own)
        token = await self._mark_commands(headers, own.receipt, own, message["status"]) if own.receipt else None
        if self._cookie and (token or self.has_bad_cookie):
            headers.append("Set-Cookie", set_cookie(self._cookie, token, self._scope["scheme"]))

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
        headers.append("Vary", f"{TOKEN}, Cookie" if self._cookie else TOKEN)
        if own.wait is not None:
            headers["Preference-Applied"] = f"wait={own.wait:.0f}"
        if own.stale:
            age = "" if own.age is None else f"; age={own.age.total_seconds():.3f}"
            headers[STALENESS] = f"stale{age}"
            headers.setdefault("Cache-Control", "no-store")


def refusal(error: Exception, path: str) -> Response:
    """Return the response to a request that does not get as far as its endpoint."""
    status, field = next(REFUSALS[cls] for cls in type(error).__mro__ if cls in REFUSALS)
    detail = shown_text(error, path)
    fields = [(field, detail)] if field else []
    retry = {"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    kind, code = type(error).__name__, shown_code(error)
    return problem(status, detail, kind=kind, code=code, fields=fields, instance=path, headers=retry)
