"""Correlation ids: what a request, all that follows from it, its answer and the records of the log have in common."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any
from uuid import UUID

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi import FastAPI
from twofold.arguments import check_instance, check_text
from twofold.fastapi.headers import headers_of, text_of
from twofold.messages.context import current_context, current_metadata, enter_context, leave_context
from twofold.messages.ids import uuid7

HEADER = "X-Correlation-Id"
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""The names of headers that there can be: the tokens of RFC 9110."""


def add_correlation(api: FastAPI, *, header: str = HEADER) -> None:
    """Let each request run on behalf of a correlation id: the one that its client sends, or else a new one.

    All that follows from the request has it in its metadata, the answer says it, and so does each record of the log
    whose handler has a `twofold.telemetry.CorrelationFilter`: also the server's own of the access, and of an error that
    no handler of errors takes. Add it after the other middleware, so that it stands around them.

    Args:
        api: the FastAPI application.
        header: in which the id comes and goes. One that is no UUID counts as none.

    Raises:
        TypeError, ValueError: the header is no text, or can be the name of none.
    """
    check_instance("api", api, FastAPI)
    check_text("header", header)
    if not _NAME.fullmatch(header):
        raise ValueError(f"`header` is the name of a header, such as {HEADER!r}, got {header!r:.60}")
    api.add_middleware(Correlation, header=header)


class Correlation:
    """Middleware that gives each request a correlation id.

    Args:
        app: what answers.
        header: in which the id comes and goes.
    """

    def __init__(self, app: ASGIApp, *, header: str = HEADER) -> None:
        self._app = app
        self._name = header.lower().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, on behalf of its correlation id."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        correlation_id = _known(text_of(headers_of(scope), self._name)) or uuid7()
        header = self._name, str(correlation_id).encode()

        async def send_with_id(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        here = current_context()
        metadata = msgspec.structs.replace(current_metadata(), correlation_id=correlation_id)
        token = enter_context(metadata, here.session, here.unit)
        await self._app(scope, receive, send_with_id)
        leave_context(token)  # not after an error: the server tells of that later in the task of this request


def _known(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
