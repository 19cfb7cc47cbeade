"""Twofold behind FastAPI: problem details, bounded bodies, exact numbers, idempotent commands, consistent answers.

api = FastAPI(lifespan=app.lifespan)
add_problem_details(api, statuses={OrderError: 409})
add_consistency(api, app)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException

from fastapi import FastAPI
from twofold.arguments import check_instance, check_whole, shown
from twofold.fastapi.bodies import MAX_BODY, BodyLimit, ExactJsonRoute
from twofold.fastapi.browsers import add_browser_protection
from twofold.fastapi.command_ids import CommandId, command_id_within
from twofold.fastapi.consistency import add_consistency
from twofold.fastapi.cookies import TokenCookie
from twofold.fastapi.correlation import add_correlation
from twofold.fastapi.docs import add_docs
from twofold.fastapi.health import add_health
from twofold.fastapi.metrics import add_metrics
from twofold.fastapi.openapi import describe_command_ids
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
    "add_correlation",
    "add_docs",
    "add_health",
    "add_metrics",
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
    check_instance("api", api, FastAPI)
    check_whole("max_body", max_body)
    _check_statuses({} if statuses is None else statuses)
    for error, status in {**STATUSES, **(statuses or {})}.items():
        api.add_exception_handler(error, answer_with(status))
    api.add_exception_handler(RequestValidationError, answer_invalid)
    api.add_exception_handler(StarletteHTTPException, answer_http)
    api.add_exception_handler(Exception, answer_unexpected)
    api.add_middleware(BodyLimit, max_body_size=max_body)
    describe_command_ids(api)


def _check_statuses(statuses: Any) -> None:
    """Refuse what is no map from errors to statuses of HTTP.

    Raises:
        TypeError: it is none.
        ValueError: HTTP has no such status.
    """
    if not isinstance(statuses, Mapping):
        raise TypeError(f"`statuses` maps errors to statuses, such as {{KeyError: 404}}, not {shown(statuses)}")
    for error, status in statuses.items():
        if not isinstance(error, type) or not issubclass(error, Exception):
            raise TypeError(f"`statuses` names classes of errors, not {shown(error)}")
        check_whole(f"statuses[{error.__name__}]", status, 400, 599)
