"""Who may look, who may change something, and what a browser may load.

1. A hook of the application says what each request may do; without one, only a browser on this machine may look.
2. A change is a `POST` of a page of this site, with the word that the page was given: another site can send neither.
3. Each answer tells the browser to load scripts, styles and data from this site alone, and to keep nothing.
"""

from __future__ import annotations

import hmac
import inspect
import secrets
from collections.abc import Awaitable, Callable
from enum import StrEnum
from ipaddress import ip_address
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
COOKIE = "twofold_dashboard"
FIELD = "word"
"""The field of a form that carries the word of the cookie; a site that makes a browser send the form cannot know it."""
_LONGEST_FORM = 64 * 1024
"""Bytes."""
_SAFE = ("GET", "HEAD")
_NOT_LOCAL = (
    "The dashboard answers this machine's own browser only, as long as the application does not say who may look: "
    "dashboard(app, grant=…). Requests that come through a proxy are not this machine's own."
)


class Access(StrEnum):
    """What a request may do."""

    NONE = "none"
    READ = "read"
    """Look at everything; personal fields stay masked."""
    CHANGE = "change"
    """Look, and pause, resume, rebuild, roll back, retry, skip and cancel."""


Grant = Callable[[Request], Access | Response | Awaitable[Access | Response]]
"""Says what a request may do; a response, such as a redirect to a login, is sent in place of the page."""


def local_readers(request: Request) -> Access:
    """Let a browser on this machine look, and refuse all else, also what comes through a proxy on this machine."""
    headers = request.headers
    forwarded = any(name == "forwarded" or name.startswith("x-forwarded-") for name in headers)
    host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    is_own = request.client is not None and _is_loopback(request.client.host) and _is_loopback(host)
    return Access.READ if is_own and not forwarded else Access.NONE


class Guard:
    """ASGI middleware around the dashboard; see the flow at the top.

    Args:
        app: the site.
        grant: says what each request may do.
    """

    def __init__(self, app: ASGIApp, *, grant: Grant) -> None:
        self._app = app
        self._grant = grant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        word = request.cookies.get(COOKIE) or secrets.token_urlsafe(24)
        protected = _with_headers(send, request, word)
        refusal = await self._refusal(request)
        if refusal is not None:
            await refusal(scope, receive, protected)
            return
        scope["state"] = {**scope.get("state", {}), "word": word}
        await self._app(scope, receive, protected)

    async def _refusal(self, request: Request) -> Response | None:
        """Return what is answered in place of the page, None if the request may pass."""
        granted = self._grant(request)
        access = await granted if inspect.isawaitable(granted) else granted
        if isinstance(access, Response):
            return access
        request.scope["state"] = {**request.scope.get("state", {}), "access": access}
        if access is Access.NONE:
            return _text(403, _NOT_LOCAL if self._grant is local_readers else "You may not look at this.")
        if request.method in _SAFE:
            return None
        if access is not Access.CHANGE:
            return _text(403, "You may look, and change nothing: dashboard(app, grant=…) decides.")
        return _text(403, "A page of another site must not send this change.") if _is_foreign(request) else None


def may_change(request: Request) -> bool:
    """Return whether a request may change something."""
    return request.state.access is Access.CHANGE


async def checked_form(request: Request) -> dict[str, str]:
    """Return the fields of a form that a page of this site has sent.

    Raises:
        HTTPException: 403, the word in it is not the one of the cookie; 413, it is longer than 64 KiB.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            raise HTTPException(413, "The form is too long.")
    fields = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
    given = request.cookies.get(COOKIE, "")
    if not given or not hmac.compare_digest(given.encode(), fields.pop(FIELD, "").encode()):
        raise HTTPException(403, "The page is too old, or cookies are refused; load it again.")
    return fields


def _with_headers(send: Send, request: Request, word: str) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Content-Security-Policy"] = POLICY
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Referrer-Policy"] = "no-referrer"
            headers["Cross-Origin-Opener-Policy"] = "same-origin"
            headers.setdefault("Cache-Control", "no-store")
            if COOKIE not in request.cookies:
                path = request.scope.get("root_path", "") or "/"
                secure = "; Secure" if request.url.scheme == "https" else ""
                headers.append("Set-Cookie", f"{COOKIE}={word}; Path={path}; HttpOnly; SameSite=Strict{secure}")
        await send(message)

    return sending


def _is_foreign(request: Request) -> bool:
    """Return whether a page of another origin sends this."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site != "same-origin"
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc != request.headers.get("host")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _text(status: int, text: str) -> Response:
    return Response(text + "\n", status, media_type="text/plain")
