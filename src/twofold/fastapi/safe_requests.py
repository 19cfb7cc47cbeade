"""Requests that only read: HEAD is answered like GET, and `If-None-Match` with 304 where nothing has changed."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OF_THE_BODY = ("content-length", "content-type", "content-encoding")


class SafeRequests:
    """ASGI middleware that answers HEAD by the endpoint for GET, and 304 to a client that has what it would get.

    An endpoint takes part by setting an `ETag`; see `etag`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            reduced = _Reduced(send, Headers(scope=scope).get("if-none-match", ""), head=scope["method"] == "HEAD")
            await self._app({**scope, "method": "GET"}, receive, reduced)
        else:
            await self._app(scope, receive, send)


class _Reduced:
    """Sends a response without its body, if the client is not to get one."""

    def __init__(self, send: Send, if_none_match: str, *, head: bool) -> None:
        self._send = send
        self._if_none_match = if_none_match
        self._without_body = head

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._start(message)
        elif not self._without_body:
            await self._send(message)

    async def _start(self, message: Message) -> None:
        headers = MutableHeaders(scope=message)
        if message["status"] == 200 and _matches(self._if_none_match, headers.get("etag", "")):
            message["status"], self._without_body = 304, True
            for name in _OF_THE_BODY:
                del headers[name]
        await self._send(message)
        if self._without_body:  # at once: to a stream without an end, this is the client that leaves
            await self._send({"type": "http.response.body", "body": b""})


def _matches(if_none_match: str, tag: str) -> bool:
    """Return whether a tag is among those of the header, by the weak comparison of RFC 9110."""
    known = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    return bool(tag) and (tag.removeprefix("W/") in known or known == ["*"])
