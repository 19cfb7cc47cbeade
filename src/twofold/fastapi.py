"""Twofold behind FastAPI: errors as problem details (RFC 9457), bounded bodies, exact numbers, idempotency keys.

api = FastAPI(lifespan=app.lifespan)
add_problem_details(api, statuses={OrderError: 409})
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any, NoReturn
from uuid import NAMESPACE_URL, UUID, uuid5

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twofold import errors
from twofold.messages import Command

MEDIA_TYPE = "application/problem+json"
MAX_BODY = 1024 * 1024
"""Bytes of a request's body that are accepted, unless another limit is given."""
MAX_EXPONENT = 400
"""A number beyond every float's range is a mistake or an attack: turned into an integer, it could fill the memory."""

STATUSES: Mapping[type[Exception], int] = {
    errors.AggregateNotFoundError: 404,
    errors.ConflictError: 409,
    errors.DuplicateEventIdError: 409,
    errors.CommandReusedError: 422,
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
}
_FIELD_SCHEMA = {"type": "object", "properties": {"field": {"type": "string"}, "detail": {"type": "string"}}}
_PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "Which kind of problem it is, for programs."},
        "title": {"type": "string", "description": "The same, for people."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong this time."},
        "instance": {"type": "string", "description": "The path that was asked for."},
        "errors": {"type": "array", "items": _FIELD_SCHEMA, "description": "The fields at fault."},
    },
}


def add_problem_details(
    api: FastAPI, *, statuses: Mapping[type[Exception], int] | None = None, max_body: int = MAX_BODY
) -> None:
    """Answer every error with problem details, and refuse larger bodies than `max_body` bytes with 413.

    Args:
        api: the FastAPI application.
        statuses: the HTTP status of your own errors, subclasses included. An error that has a `field` attribute names
            it in the answer; its text is shown to the client.
        max_body: how many bytes a body may have, declared or not.
    """
    for error, status in {**STATUSES, **(statuses or {})}.items():
        api.add_exception_handler(error, _answer_with(status))
    api.add_exception_handler(RequestValidationError, _answer_invalid)
    api.add_exception_handler(StarletteHTTPException, _answer_http)
    api.add_exception_handler(Exception, _answer_unexpected)
    api.add_middleware(BodyLimit, max_body=max_body)


def problem(
    status: int,
    detail: str,
    *,
    kind: str = "",
    fields: Sequence[tuple[str, str]] = (),
    instance: str = "",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a problem as a response. `kind` is the name of the error; `fields` are those at fault, with the reason."""
    phrase = HTTPStatus(status).phrase
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.removesuffix("Error")).lower()
    content: dict[str, Any] = {
        "type": f"urn:problem:{words.replace(' ', '-')}" if words else "about:blank",
        "title": words.capitalize() or phrase,
        "status": status,
        "detail": detail or phrase,
    }
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


class BodyLimit:
    """ASGI middleware that answers 413 to a body that is too large, whether its length was declared or not."""

    def __init__(self, app: ASGIApp, max_body: int = MAX_BODY) -> None:
        self._app = app
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared[:19]) > self._max_body:
            await self._refusal(scope["path"])(scope, receive, send)
            return
        await self._app(scope, self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._max_body:
                raise HTTPException(413, self._detail())
            return message

        return counted

    def _refusal(self, path: str) -> Response:
        return problem(413, self._detail(), instance=path)

    def _detail(self) -> str:
        return f"the body is larger than {self._max_body} bytes"


class ExactJsonRoute(APIRoute):
    """A route that reads the numbers of a JSON body as `Decimal`: `APIRouter(route_class=ExactJsonRoute)`.

    FastAPI would read them as floats, which round. JSON that Python accepts and the standard does not, such as NaN, is
    refused, and so is JSON that is nested too deeply.
    """

    def get_route_handler(self) -> Callable[[Request], Awaitable[Any]]:  # type: ignore[override]
        """Return what handles a request of this route."""
        handle = super().get_route_handler()

        async def handle_exactly(request: Request) -> Any:
            return await handle(_ExactJsonRequest(request.scope, request.receive))

        return handle_exactly


class _ExactJsonRequest(Request):
    async def json(self) -> Any:
        body = await self.body()
        try:
            return json.loads(body, parse_float=_exact, parse_constant=_refuse_constant)
        except json.JSONDecodeError:
            raise
        except RecursionError:
            raise json.JSONDecodeError("nested too deeply", "", 0) from None
        except ValueError as error:  # not UTF-8, or an integer of thousands of digits
            raise json.JSONDecodeError(str(error), "", 0) from None


def _exact(number: str) -> Decimal:
    value = Decimal(number)
    if value and abs(value.adjusted()) > MAX_EXPONENT:
        raise ValueError(f"number out of range: {number[:40]}")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _command_id(
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Makes a repeat of the request harmless: it takes effect once, and is answered alike.",
            min_length=1,
            max_length=200,
            examples=["0198c7a1-5f0e-7c3e-9a57-3d1f0a4be001"],
        ),
    ] = None,
) -> UUID:
    if idempotency_key is None:
        return Command().command_id
    try:
        return UUID(idempotency_key)
    except ValueError:
        return uuid5(NAMESPACE_URL, f"idempotency-key:{idempotency_key}")


CommandId = Annotated[UUID, Depends(_command_id)]
"""The id for a command, as an endpoint's parameter: from the header `Idempotency-Key` if there is one, else a new one.

A key that is a UUID is the id itself. The same key with another content is answered with 422.
"""


def _answer_with(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        field = getattr(error, "field", None) or next(
            (_FIELDS[cls] for cls in type(error).__mro__ if cls in _FIELDS), None
        )
        detail = str(error)
        return problem(
            status,
            detail,
            kind=type(error).__name__,
            fields=[(field, detail)] if field else (),
            instance=request.url.path,
            headers={"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else None,
        )

    return answer


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - it is registered for nothing else
    fields = list(_invalid_fields(error))
    if [field for field, _ in fields] == ["body"] and "json" not in request.headers.get("content-type", ""):
        fields = [("body", "must be JSON, sent with the header `Content-Type: application/json`")]
    detail = "; ".join(f"{field}: {reason}" for field, reason in fields)
    return problem(422, detail, kind="InvalidRequestError", fields=fields, instance=request.url.path)


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


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)  # noqa: S101 - it is registered for nothing else
    return problem(error.status_code, str(error.detail), instance=request.url.path, headers=error.headers)


async def _answer_unexpected(request: Request, error: Exception) -> Response:
    """Say nothing of the cause, which is in the server's log."""
    return problem(
        500, "the server failed on this request; nothing is known to be wrong with it", instance=request.url.path
    )
