"""Idempotency keys become command ids, each within its scope: the caller, the tenant and the operation."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from uuid import NAMESPACE_URL, UUID, uuid5

from fastapi.exceptions import RequestValidationError

from fastapi import Depends, Request
from twofold.arguments import check_function
from twofold.fastapi.openapi import HEADER
from twofold.messages.context import current_metadata
from twofold.messages.ids import uuid7

_KEY = "idempotency-key"
_LONGEST = 200


def command_id_within(scope: Callable[[Request], str]) -> Callable[..., Awaitable[UUID]]:
    """Return a dependency that gives the command id of a request, within a scope of the application's own.

    `Annotated[UUID, Depends(command_id_within(lambda request: request.state.user))]` keeps the keys of one user apart
    from those of all others. The scope of a repeat must be that of the first request: take the user, and no token that
    is renewed.

    Args:
        scope: from a request to what its key is unique in; empty for none.
    """
    check_function("scope", scope)
    if inspect.iscoroutinefunction(scope):
        raise TypeError("`scope` is asynchronous; let a dependency find the user, and return it from request.state")

    async def command_id(request: Request) -> UUID:
        key = request.headers.get(_KEY)
        if key is None:
            return uuid7()
        _check_length(key)
        within = scope(request)
        if not isinstance(within, str):
            raise TypeError(f"the scope of a key is a text, empty for none, and not {within!r}")
        if not within and (given := _as_uuid(key)):
            return given
        operation = f"{request.method} {getattr(request.scope.get('route'), 'path', request.url.path)}"
        return uuid5(NAMESPACE_URL, "\n".join(("idempotency-key", within, operation, key)))

    # FastAPI would read a parameter that is a `Header` itself, which takes as long as all else that it does for a key.
    setattr(command_id, HEADER, _KEY)
    return command_id


def _check_length(key: str) -> None:
    """Refuse a key as FastAPI refuses a header that is not as declared.

    Raises:
        RequestValidationError: it is empty or too long.
    """
    wrong: dict[str, Any] | None = None
    if not key:
        wrong = {"type": "string_too_short", "msg": "String should have at least 1 character"}
    elif len(key) > _LONGEST:
        wrong = {"type": "string_too_long", "msg": f"String should have at most {_LONGEST} characters"}
    if wrong is not None:
        raise RequestValidationError([{**wrong, "loc": ("header", _KEY), "input": key}])


def _caller(_: Request) -> str:
    """Return the tenant and the user that `twofold.metadata(...)` has set for the request; empty if it has set none."""
    known = current_metadata()
    return "" if known.tenant is None and known.user is None else f"{known.tenant or ''}\n{known.user or ''}"


def _as_uuid(key: str) -> UUID | None:
    try:
        return UUID(key)
    except ValueError:
        return None


CommandId = Annotated[UUID, Depends(command_id_within(_caller))]
"""The id for a command, as an endpoint's parameter: from the header `Idempotency-Key` if there is one, else a new one.

A key belongs to the tenant and the user that `twofold.metadata(...)` has set for the request, and to the operation; the
same key of another user is another command. Where neither is set, a key that is a UUID is the id itself. The same key
with another content is answered with 422.
"""
