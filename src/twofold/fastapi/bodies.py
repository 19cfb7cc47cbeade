"""Bodies: bounded, and with exact numbers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, NoReturn

from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi import HTTPException, Request, Response
from twofold.fastapi.problems import problem

MAX_BODY = 1024 * 1024
"""Bytes of a request's body that are accepted, unless another limit is given."""
MAX_EXPONENT = 400
"""A number beyond every float's range is a mistake or an attack: turned into an integer, it could fill the memory."""


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
