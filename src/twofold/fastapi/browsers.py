"""What other web pages can make a browser do, and what they cannot: hosts and origins that are trusted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi import FastAPI
from twofold.arguments import check_instance, check_texts
from twofold.fastapi.answering import SAFE
from twofold.fastapi.headers import headers_of, text_of
from twofold.fastapi.problems import problem


def add_browser_protection(api: FastAPI, *, hosts: Collection[str], origins: Collection[str] = ()) -> None:
    """Refuse what another web site makes a browser send.

    - A request for another host than these is answered with 400: a site whose name is made to lead to this server's
      address reads nothing. IP addresses and `localhost` always pass, since no other site can have such a name.
    - A change (any method but GET, HEAD, OPTIONS and TRACE) that a page of another origin sends is answered with 403,
      also without a body. Programs that are no browsers send neither `Sec-Fetch-Site` nor `Origin`, and pass.

    Args:
        api: the FastAPI application.
        hosts: the names under which this server is reached, without ports; `"*"` lets every name pass.
        origins: other origins whose pages may send changes, such as `"https://shop.example"`.
    """
    check_instance("api", api, FastAPI)
    hosts, origins = check_texts("hosts", hosts), check_texts("origins", origins)
    if not hosts:
        raise ValueError('`hosts` is empty, so that no name would pass; name them, or write hosts=["*"]')
    api.add_middleware(BrowserProtection, hosts=hosts, origins=origins)


class BrowserProtection:
    """ASGI middleware that checks the host and the origin of requests; see `add_browser_protection`."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], origins: Collection[str] = ()) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = headers_of(scope)
        if not self._is_ours(_name(text_of(headers, b"host") or "")):
            refusal = problem(400, "this server does not answer for the host that `Host` names", instance=scope["path"])
            await refusal(scope, receive, send)
        elif scope["method"] not in SAFE and self._is_foreign(headers):
            refusal = problem(403, "a page of another origin must not send this change", instance=scope["path"])
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_ours(self, host: str) -> bool:
        return host in self._hosts or "*" in self._hosts or host == "localhost" or _is_address(host)

    def _is_foreign(self, headers: Mapping[bytes, bytes]) -> bool:
        """Return whether a page of another origin sent the request, as Go's `CrossOriginProtection` decides it."""
        origin, site = (text_of(headers, b"origin") or "").lower(), text_of(headers, b"sec-fetch-site")
        if origin and origin in self._origins:
            return False
        if site:
            return site not in ("same-origin", "none")
        return bool(origin) and urlsplit(origin).netloc != (text_of(headers, b"host") or "").lower()


def _name(host: str) -> str:
    """Return a host without its port."""
    return host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0].lower().rstrip(".")


@lru_cache(1024)  # a server has few addresses, and is asked for the same one with each request
def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
