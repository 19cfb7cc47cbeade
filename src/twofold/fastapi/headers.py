"""The headers of a request, looked up by their bytes, and decoded only if they are there."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Scope


def headers_of(scope: Scope) -> Mapping[bytes, bytes]:
    """Return the headers of a request by their names in lower case; of a name that comes twice, the first.

    Starlette's `Headers` walks over all headers for each that is asked for. Every request is asked for a dozen.
    """
    return dict(reversed(list(scope["headers"])))


def text_of(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    """Return the value of a header as text; None if the request has no such header."""
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


def all_of(scope: Scope, name: bytes) -> str:
    """Return the values of a header that may come several times, with commas between them."""
    return b",".join(value for each, value in scope["headers"] if each == name).decode("latin-1")
