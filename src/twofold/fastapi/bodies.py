"""Bodies: bounded, and with exact numbers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from functools import partial
from typing import Any, NoReturn

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi import Request
from twofold.fastapi.headers import headers_of
from twofold.fastapi.problems import problem, too_large

MAX_BODY = 1024 * 1024
"""Bytes of a request's body that are accepted, unless another limit is given."""
MAX_EXPONENT = 400
"""A number beyond every float's range is a mistake or an attack: turned into an integer, it could fill the memory."""


class BodyLimit(RequestBodyLimitMiddleware):
    """ASGI middleware that answers 413 to a body that is too large, whether its length was declared or not.

    A declared length is compared before anything else happens: Starlette would let an endpoint that reads no body do
    its work, and answer 413 in place of the outcome. A body of HTTP/1 ends where its declared length ends, and without
    a length and a coding there is none. Of all others, Starlette counts the bytes as they come.
    """

    def __init__(self, app: ASGIApp, max_body_size: int = MAX_BODY) -> None:
        super().__init__(app, max_body_size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = headers_of(scope)
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared[:19]) > self.max_body_size:
            refusal = problem(413, too_large(self.max_body_size), instance=scope["path"])
            await refusal(scope, receive, send)
        elif scope["http_version"].startswith("1") and b"transfer-encoding" not in headers:
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class ExactJsonRoute(APIRoute):
    """A route that reads the numbers of a JSON body as `Decimal`: `APIRouter(route_class=ExactJsonRoute)`.

    FastAPI would read them as floats, which round. JSON that Python accepts and the standard does not, such as NaN, is
    refused, and so is JSON that is nested too deeply.
    """

    def get_route_handler(self) -> Callable[[Request], Awaitable[Any]]:  # type: ignore[override]
        """Return what handles a request of this route."""
        handle = super().get_route_handler()
        if self.body_field is None and not _gives_requests(self.dependant):
            return handle  # nothing can ask for the body

        async def handle_exactly(request: Request) -> Any:
            request.json = partial(_exact_json, request)  # type: ignore[method-assign]  # a request is made already
            try:
                return await handle(request)
            finally:  # no cycle is left, which only the garbage collector would end
                del request.json

        return handle_exactly


def _gives_requests(dependant: Dependant) -> bool:
    """Return whether an endpoint, or one of its dependencies, gets the request itself."""
    return bool(dependant.request_param_name) or any(map(_gives_requests, dependant.dependencies))


async def _exact_json(request: Request) -> Any:
    body = await request.body()
    try:
        return _DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
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


_DECODER = json.JSONDecoder(parse_float=_exact, parse_constant=_refuse_constant)
"""Made once: `json.loads` makes one, with its scanner, for each text that it does not read by default."""
