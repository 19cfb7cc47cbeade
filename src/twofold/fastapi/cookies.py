"""The cookie that carries a browser's consistency token."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import cookie_parser

from twofold.arguments import check_text
from twofold.fastapi.headers import text_of


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


def token_in(cookie: TokenCookie | None, headers: Mapping[bytes, bytes]) -> str | None:
    """Return the token that the cookie of a request carries; None if there is none."""
    sent = None if cookie is None else text_of(headers, b"cookie")
    return cookie_parser(sent).get(cookie.name) if cookie and sent else None


def set_cookie(cookie: TokenCookie, token: str | None, scheme: str) -> str:
    """Return the header that sets the cookie, or that deletes it if there is no token.

    Written by hand, as it goes with each command: a token needs no quotes, and the cookie lives as long as the browser.
    """
    life = "" if token else "expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; "
    secure = "; Secure" if scheme == "https" else ""
    return f"{cookie.name}={token or ''}; {life}HttpOnly; Path={cookie.path}; SameSite=lax{secure}"
