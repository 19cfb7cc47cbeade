"""Finding events, and where one comes from and leads to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from twofold.application import Application
from twofold.dashboard.pictures import Box, tree
from twofold.dashboard.rendering import is_part, link_query, moment, number, page, root_of, whole_number
from twofold.errors import EventNotFoundError
from twofold.inspection import EventSearch, Trace, TracedEvent, find_event, search_events, trace
from twofold.messages.event import RecordedEvent
from twofold.messages.stream import RESERVED

PAGE = 50
"""Events on a page."""
DRAWN = 400
"""Events and commands in a picture of causes; the rest of a longer chain is said to be left out."""
_FIELDS = ("stream", "stream_type", "type", "tag", "correlation", "user", "since", "until")


async def show_events(app: Application, request: Request) -> Response:
    """Show the events that are looked for, the newest first."""
    asked = {name: request.query_params.get(name, "").strip() for name in _FIELDS}
    problem, found, more = "", None, ""
    try:
        before = request.query_params.get("before", "")
        found = await search_events(app.store, _search(asked, before), limit=PAGE)
        if found.next is not None:
            more = link_query({**asked, "before": found.next})
    except ValueError as error:
        problem = str(error)
    names = {codec.stored.name for codec in app.store.events.codecs}
    types = sorted(name for name in names if not name.startswith(RESERVED))
    template = "_events.html" if is_part(request) else "events.html"
    return page(
        request, template, title="Events", asked=asked, events=found.events if found else [], more=more,
        problem=problem, types=types, is_first=not request.query_params.get("before"),
    )  # fmt: skip


async def show_event(app: Application, request: Request) -> Response:
    """Show an event, and the tree of what caused it and what it led to."""
    event = await find_event(app.store, _which(request.path_params["which"]))
    causes = await trace(app.store, event.event_id)
    return page(
        request, "event.html", title=f"Event {number(event.position)}", event=event, causes=causes,
        has_next=event.position < await app.store.head(),
        nodes=causes.nodes[:DRAWN], left_out=max(len(causes.nodes) - DRAWN, 0),
        picture=tree("What caused the event, and what followed from it", _boxes(causes, root_of(request))),
        is_event=lambda node: isinstance(node, TracedEvent),
    )  # fmt: skip


def _search(asked: dict[str, str], before: str) -> EventSearch:
    """Return what the fields of the form ask for.

    Raises:
        ValueError: a field cannot be read; the text is for the person who filled it in.
    """
    return EventSearch(
        stream=asked["stream"], stream_type=asked["stream_type"], types=tuple(asked["type"].split()),
        tags=tuple(asked["tag"].split()), user=asked["user"], correlation=_id(asked["correlation"]),
        since=_time("From", asked["since"]), until=_time("Until", asked["until"]),
        before=_place(before), newest_first=True,
    )  # fmt: skip


def _id(text: str) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        raise ValueError(f"Correlation: {text!r} is no UUID") from None


def _time(field: str, text: str) -> datetime | None:
    """Return a time in UTC, unless it names another zone."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{field}: write a time such as 2026-11-26 or 2026-11-26T07:30, in UTC; got {text!r}"
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _place(text: str) -> int | None:
    if not text:
        return None
    if (position := whole_number(text)) is None:
        raise ValueError(f"a page begins before a position, got {text!r}")
    return position


def _which(text: str) -> int | UUID:
    if position := whole_number(text):
        return position
    try:
        return UUID(text)
    except ValueError:
        raise EventNotFoundError(f"an event has a position or an id, and {text!r} is neither") from None


def _boxes(causes: Trace, root: str) -> Iterator[tuple[int, Box]]:
    for node in causes.nodes[:DRAWN]:
        if isinstance(node, TracedEvent):
            yield node.depth, _box(node.event, root, is_asked=node.event.event_id == causes.of)
        else:
            kind = "command refused" if node.refusal else "command"
            text = (node.name or "command") + (f" · {node.refusal}" if node.refusal else "")
            yield node.depth, Box(id=str(node.command_id), text=text, kind=kind, title=f"command {node.command_id}")


def _box(event: RecordedEvent[Any], root: str, *, is_asked: bool) -> Box:
    is_step = event.stream_type.startswith(RESERVED)
    kind, text = "event", f"{event.type} · {event.stream_id}"
    if is_step:
        process = event.stream_type.removeprefix(RESERVED)
        kind, text = "process", f"{process} · step {event.version}"
    return Box(
        id=str(event.event_id), text=text, kind=f"{kind} asked" if is_asked else kind,
        title=f"{event.type} of {event.stream_id} at position {event.position}, {moment(event.recorded_at)}",
        href=f"{root}/events/{event.position}",
    )  # fmt: skip
