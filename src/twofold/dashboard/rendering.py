"""From what was found to a page: templates, and how times, sizes and payloads are written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import urlencode

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from twofold.dashboard.guard import may_change
from twofold.inspection import document_of

NOTHING = "\N{EN DASH}"
"""Stands where there is no value."""


def page(request: Request, template: str, code: int = 200, /, **values: Any) -> HTMLResponse:
    """Return a page, or the part of it that htmx asks for."""
    root = root_of(request)
    known = {"root": root, "may_change": may_change(request), "word": request.state.word, "path": _path(request, root)}
    return HTMLResponse(_environment().get_template(template).render(known | values), code)


def root_of(request: Request) -> str:
    """Return the path at which the application has mounted the dashboard, with which each link begins."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def is_part(request: Request) -> bool:
    """Return whether htmx asks for a part of a page."""
    return request.headers.get("hx-request") == "true"


def written(document: Any) -> str:
    """Return a document as JSON that a person can read."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def duration(span: timedelta | float | None) -> str:
    """Return a span of time in its largest units, such as `2 min 5 s`."""
    if span is None:
        return NOTHING
    seconds = span.total_seconds() if isinstance(span, timedelta) else span
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for unit, below, size in (("d", "h", 86400), ("h", "min", 3600), ("min", "s", 60)):
        if seconds >= size:
            rest = int(seconds % size / {"h": 3600, "min": 60, "s": 1}[below])
            return f"{int(seconds // size)} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{seconds:.0f} s" if seconds >= 10 or seconds == int(seconds) else f"{seconds:.1f} s"


def moment(at: datetime | None) -> str:
    """Return a time as `2026-11-26 07:36:01.250`, in UTC."""
    return at.astimezone(UTC).isoformat(" ", "milliseconds").removesuffix("+00:00") if at else NOTHING


def number(count: int) -> str:
    """Return a number with its thousands apart."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def whole_number(text: str) -> int | None:
    """Return the position or version that a text of a request says; None if it says none that a log can have."""
    return int(text) if text.isdecimal() and len(text) <= 18 else None


def link_query(parameters: Mapping[str, Any]) -> str:
    """Return parameters of an address, without those that are empty."""
    return urlencode({name: value for name, value in parameters.items() if value not in (None, "", ())}, doseq=True)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("twofold.dashboard"), autoescape=select_autoescape(), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, auto_reload=False,
    )  # fmt: skip
    environment.filters.update(
        duration=duration, moment=moment, number=number, written=written, document=document_of, query=link_query
    )
    return environment


def _path(request: Request, root: str) -> str:
    return request.url.path.removeprefix(root) or "/"
