"""Database URLs in texts: which engine one names, and how it is shown without its secrets."""

from __future__ import annotations

import re
from urllib.parse import unquote

HIDDEN = "***"
SHORTEST = 3
"""Characters of the shortest piece of a password that is hidden; shorter ones would make texts unreadable."""

_PARAMETER = re.compile(r"(\w*(?:password|secret|passfile|sslkey|token)\w*\s*=\s*)('[^']*'|[^&\s]*)", re.IGNORECASE)


def scheme_of(url: str) -> str:
    """Return the engine that a URL names, without the driver that may stand behind a `+`."""
    return url.partition(":")[0].partition("+")[0].lower()


def without_secrets(url: str) -> str:
    """Return a URL, or what was given for one, as texts, banners and logs may show it: with `***` for each secret.

    Where a text is ambiguous, as with `@` in a password that was not quoted, more is hidden rather than less.
    """
    scheme, mark, rest = _PARAMETER.sub(rf"\g<1>{HIDDEN}", url).rpartition("://")
    account, at, place = rest.rpartition("@")
    if scheme.startswith("sqlite") or not at:
        return scheme + mark + rest
    user, colon, _ = account.partition(":")
    return f"{scheme}{mark}{user}{colon and ':' + HIDDEN}@{place}"


def hide_secrets(text: str, url: str) -> str:
    """Return a text, such as a driver's error about a URL, without the URL's secrets or pieces of them.

    A password with `@`, `/` or `?` that was not quoted is taken apart by drivers, which then name a piece as a host.
    """
    hidden = text.replace(url, without_secrets(url))
    for piece in sorted(_pieces(url), key=len, reverse=True):
        hidden = hidden.replace(piece, HIDDEN)
    return hidden


def _pieces(url: str) -> set[str]:
    scheme, _, rest = url.rpartition("://")
    found = [value.strip("'") for _, value in _PARAMETER.findall(url)]
    account, at, _ = rest.rpartition("@")
    if at and not scheme.startswith("sqlite"):
        found.append(account.partition(":")[2])
    pieces = [piece for password in found for piece in (password, unquote(password), *re.split(r"[@/?:#&]", password))]
    return {piece for piece in pieces if len(piece) >= SHORTEST}
