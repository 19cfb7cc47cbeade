"""Twofold behind FastAPI: problem details, bounded bodies, exact numbers, idempotent commands, consistent answers.

api = FastAPI(lifespan=app.lifespan)
add_problem_details(api, statuses={OrderError: 409})
add_consistency(api, app)
"""

from __future__ import annotations

from collections.abc import Mapping

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException

from fastapi import FastAPI
from twofold.fastapi.bodies import MAX_BODY, BodyLimit, ExactJsonRoute
from twofold.fastapi.browsers import add_browser_protection
from twofold.fastapi.command_ids import CommandId, command_id_within
from twofold.fastapi.consistency import TokenCookie, add_consistency
from twofold.fastapi.docs import add_docs
from twofold.fastapi.preconditions import IF_MATCH_REQUIRED, etag
from twofold.fastapi.problems import (
    MEDIA_TYPE,
    STATUSES,
    answer_http,
    answer_invalid,
    answer_unexpected,
    answer_with,
    problem,
    problem_responses,
)
from twofold.fastapi.watch import Watch, WatchedAnswers, WatchResponse

__all__ = [
    "IF_MATCH_REQUIRED",
    "MAX_BODY",
    "MEDIA_TYPE",
    "STATUSES",
    "BodyLimit",
    "CommandId",
    "ExactJsonRoute",
    "TokenCookie",
    "Watch",
    "WatchResponse",
    "WatchedAnswers",
    "add_browser_protection",
    "add_consistency",
    "add_docs",
    "add_problem_details",
    "command_id_within",
    "etag",
    "problem",
    "problem_responses",
]


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
        api.add_exception_handler(error, answer_with(status))
    api.add_exception_handler(RequestValidationError, answer_invalid)
    api.add_exception_handler(StarletteHTTPException, answer_http)
    api.add_exception_handler(Exception, answer_unexpected)
    api.add_middleware(BodyLimit, max_body_size=max_body)
