"""Database URLs in texts: which engine one names, and how it is shown without its secrets."""

from __future__ import annotations

import re

_SECRETS = re.compile(r"(password|secret|passfile|sslkey|token)", re.IGNORECASE)


def scheme_of(url: str) -> str:
    """Return the engine that a URL names, without the driver that may stand behind a `+`."""
    return url.partition(":")[0].partition("+")[0].lower()


def without_secrets(url: str) -> str:
    """Return a URL as texts, banners and logs may show it, with `***` for the password, wherever that stands."""
    scheme, mark, rest = url.partition("://")
    base, question, query = rest.partition("?")
    authority, slash, path = base.rpartition("@")[2].partition("/") if "@" in base else base.partition("/")
    user = base.rpartition("@")[0].partition(":")
    if user[0]:
        authority = f"{user[0]}{':***' if user[1] else ''}@{authority}"
    options = "&".join(_shown(option) for option in query.split("&"))
    return f"{scheme}{mark}{authority}{slash}{path}{question}{options}"


def _shown(option: str) -> str:
    name, equals, _ = option.partition("=")
    return f"{name}{equals}***" if _SECRETS.search(name) else option
