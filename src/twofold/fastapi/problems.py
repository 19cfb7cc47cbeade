"""Errors as problem details (RFC 9457)."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.routing import Match

from fastapi import Request, Response
from twofold import errors

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

STATUSES: Mapping[type[Exception], int] = {
    errors.AggregateNotFoundError: 404,
    errors.ConflictError: 409,
    errors.DuplicateEventIdError: 409,
    errors.StreamClosedError: 409,
    errors.VersionMismatchError: 412,
    errors.InvalidTenantError: 400,
    errors.InvalidTokenError: 400,
    errors.CommandReusedError: 422,
    errors.FuturePositionError: 422,
    errors.InvalidCursorError: 422,
    errors.InvalidFilterError: 422,
    errors.InvalidEventError: 422,
    errors.LimitExceededError: 422,
    errors.UnknownFieldError: 422,
    errors.OutcomeUnknownError: 503,
    errors.StaleReadError: 503,
    errors.StorageError: 503,
}
"""How the framework's errors are answered. The others are faults of the program: 500."""

_FIELDS: Mapping[type[Exception], str] = {
    errors.CommandReusedError: "Idempotency-Key",
    errors.InvalidCursorError: "cursor",
    errors.VersionMismatchError: "If-Match",
}
_SHOWN: Mapping[type[Exception], str] = {
    errors.OutcomeUnknownError: (
        "the database did not say in time whether it stored the change; "
        "repeat the request with the same Idempotency-Key"
    ),
    errors.StorageFullError: "the server's disk is full; nothing was stored",
    errors.ReadOnlyStorageError: "the server's database is read-only now; nothing was stored",
    errors.StorageError: "the server's database cannot answer now; try again later",
}
"""What clients read of errors whose own texts hold addresses, paths and the database's words. Those stay in the log."""
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_JSON = "must be JSON, sent with the header `Content-Type: application/json` and not compressed"
_FIELD_SCHEMA = {"type": "object", "properties": {"field": {"type": "string"}, "detail": {"type": "string"}}}
_PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "Which kind of problem it is, for programs."},
        "title": {"type": "string", "description": "The same, for people."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong this time."},
        "code": {"type": "string", "description": "The code of an error of Twofold, such as TE302."},
        "instance": {"type": "string", "description": "The path that was asked for."},
        "errors": {"type": "array", "items": _FIELD_SCHEMA, "description": "The fields at fault."},
    },
}


def problem(
    status: int,
    detail: str,
    *,
    kind: str = "",
    code: str = "",
    fields: Sequence[tuple[str, str]] = (),
    instance: str = "",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a problem as a response. `kind` is the name of the error, `code` its code; `fields` are at fault."""
    phrase = HTTPStatus(status).phrase
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.removesuffix("Error")).lower()
    content: dict[str, Any] = {
        "type": f"urn:problem:{words.replace(' ', '-')}" if words else "about:blank",
        "title": words.capitalize() or phrase,
        "status": status,
        "detail": detail or phrase,
    }
    if code:
        content["code"] = code
    if instance:
        content["instance"] = instance
    if fields:
        content["errors"] = [{"field": field, "detail": reason} for field, reason in fields]
    return JSONResponse(content, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI shows of an operation's problems: `@api.get(…, responses=problem_responses(404))`."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": _PROBLEM_SCHEMA, "example": _example(status)}},
        }
        for status in statuses
    }


def _example(status: int) -> dict[str, Any]:
    phrase = HTTPStatus(status).phrase
    return {"type": "about:blank", "title": phrase, "status": status, "detail": phrase}


def answer_with(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Return what answers an error with its own text, if clients may read that."""

    async def answer(request: Request, error: Exception) -> Response:
        detail = shown_text(error, request.url.path)
        field = getattr(error, "field", None) or _entry(_FIELDS, error)
        return problem(
            status,
            detail,
            kind=type(error).__name__,
            code=shown_code(error),
            fields=[(field, detail)] if field else (),
            instance=request.url.path,
            headers={"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else None,
        )

    return answer


def shown_code(error: Exception) -> str:
    """Return the code of an error of Twofold, or of a class that an application derives from one."""
    code = type(error).code if isinstance(error, errors.TwofoldError) else ""
    return "" if code == errors.TwofoldError.code else code


def shown_text(error: Exception, path: str) -> str:
    """Return what a client may read of an error. A text that is for operators goes to the log instead."""
    shown = _entry(_SHOWN, error)
    if shown:
        log.warning("%s: %s: %s", path, type(error).__name__, error)
    return shown or str(error)


def _entry(table: Mapping[type[Exception], str], error: Exception) -> str | None:
    return next((table[cls] for cls in type(error).__mro__ if cls in table), None)


async def answer_invalid(request: Request, error: Exception) -> Response:
    """Name the fields of a request that is not as the operation wants it."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - it is registered for nothing else
    if _is_of_another_type(request) and any(each["loc"][0] == "body" for each in error.errors()):
        return _unsupported(request)
    fields = list(_invalid_fields(error))
    detail = "; ".join(f"{field}: {reason}" for field, reason in fields)
    return problem(422, detail, kind="InvalidRequestError", fields=fields, instance=request.url.path)


def _unsupported(request: Request) -> Response:
    accepted = {"Accept": "application/json", "Accept-Encoding": "identity"}
    return problem(415, f"body: {_JSON}", fields=[("body", _JSON)], instance=request.url.path, headers=accepted)


def _is_of_another_type(request: Request) -> bool:
    """Return whether a body came that is neither JSON nor a form, or is compressed."""
    headers = request.headers
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return False
    if headers.get("content-encoding", "identity").lower() != "identity":
        return True
    return not re.search(r"[/+]json\b|x-www-form-urlencoded|multipart/form-data", headers.get("content-type", ""))


def _invalid_fields(error: RequestValidationError) -> Iterator[tuple[str, str]]:
    for each in error.errors():
        place, *path = each["loc"]
        if each["type"] == "json_invalid":
            yield "body", f"not valid JSON: {each['ctx']['error']} at character {path[0]}"
        else:
            yield _dotted(path) or str(place), each["msg"].removeprefix("Value error, ")


def _dotted(path: Sequence[str | int]) -> str:
    """Return a path such as `items[0].price`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")


async def answer_http(request: Request, error: Exception) -> Response:
    """Keep status and headers of an `HTTPException`."""
    assert isinstance(error, StarletteHTTPException)  # noqa: S101 - it is registered for nothing else
    status, detail, headers = error.status_code, str(error.detail), dict(error.headers or {})
    if status == HTTPStatus.BAD_REQUEST and error.__cause__ is not None and _is_of_another_type(request):
        return _unsupported(request)  # what FastAPI says of a body that is no text
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and MAX_BODY_SIZE_SCOPE_KEY in request.scope:
        detail = too_large(request.scope[MAX_BODY_SIZE_SCOPE_KEY])
    return problem(status, detail, instance=request.url.path, headers=headers)


def too_large(limit: int) -> str:
    """Return what is said of a body beyond a limit of bytes."""
    return f"the body is larger than {limit} bytes"


def _allowed_methods(request: Request) -> list[str]:
    """Return the methods that a path takes. Starlette names those of the first route, one path may have several."""
    found = [
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]
    return [*found, *(["HEAD"] if "GET" in found else [])]


async def answer_unexpected(request: Request, error: Exception) -> Response:
    """Say nothing of the cause, which is in the server's log."""
    return problem(
        500, "the server failed on this request; nothing is known to be wrong with it", instance=request.url.path
    )
