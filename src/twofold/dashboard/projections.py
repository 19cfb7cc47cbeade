"""Read models and reactions: where they are in their lives, what is parked, and what an operator can do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from twofold.application import Application
from twofold.dashboard.guard import checked_form
from twofold.dashboard.rendering import is_part, page, root_of, whole_number
from twofold.errors import UnknownProjectionError
from twofold.inspection import parked_groups
from twofold.synchronizer.control import ProjectionControl

SHOWN = 100
"""Parked events on a page."""
Change = Callable[[ProjectionControl, Mapping[str, str]], Awaitable[object]]


async def show_projections(app: Application, request: Request) -> Response:
    """Show all of them, those with problems first."""
    statuses = sorted(await app.projections.status(), key=lambda each: (not each.problems, each.name))
    template = "_projections.html" if is_part(request) else "projections.html"
    return page(request, template, title="Projections", statuses=statuses)


async def show_projection(app: Application, request: Request) -> Response:
    """Show one of them."""
    name = request.path_params["name"]
    statuses = {each.name: each for each in await app.projections.status()}
    if (status := statuses.get(name)) is None:
        raise UnknownProjectionError(name, statuses)
    runner = next((each for each in app.projections.runners if each.name == name), None)
    parked: Any = []
    skipped: Any = []
    if runner is not None and status.is_made and runner.drive.is_stored:
        control = app.projections.control(name)
        parked, skipped = await control.parked(), await control.skipped()
    template = "_projection.html" if is_part(request) else "projection.html"
    return page(
        request, template, title=name, status=status, runner=runner, parked=parked[:SHOWN], count=len(parked),
        skipped=skipped, groups=parked_groups(parked), events=[each.__name__ for each in _events(runner)],
    )  # fmt: skip


async def change(app: Application, request: Request) -> Response:
    """Do what an operator has asked for, and show the projection again."""
    fields, name = await checked_form(request), request.path_params["name"]
    do = _CHANGES.get(request.path_params["change"])
    if do is None:
        raise HTTPException(404, "There is no such change.")
    await do(app.projections.control(name), fields)
    return RedirectResponse(f"{root_of(request)}/projections/{name}", 303)


def _events(runner: Any) -> list[type]:
    return list(runner.projection.handles()) if runner is not None else []


async def _retry(control: ProjectionControl, fields: Mapping[str, str]) -> None:
    await control.retry(*_key(fields))


async def _skip(control: ProjectionControl, fields: Mapping[str, str]) -> None:
    text = fields.get("position", "")
    if (position := whole_number(text)) is None:
        raise ValueError(f"say which event to skip, by its position; got {text!r}")
    await control.skip(position, reason=fields.get("reason", ""))


def _key(fields: Mapping[str, str]) -> list[Any]:
    """Return the key of a row that is meant; empty if all are."""
    if not (key := fields.get("key", "")):
        return []
    try:
        found = msgspec.json.decode(key)
    except msgspec.DecodeError:
        raise ValueError(f"a key is JSON, got {key!r}") from None
    return found if isinstance(found, list) else [found]


_CHANGES: dict[str, Change] = {
    "pause": lambda control, _: control.pause(),
    "resume": lambda control, _: control.resume(),
    "rebuild": lambda control, _: control.begin_rebuild(),
    "cancel-rebuild": lambda control, _: control.cancel_rebuild(),
    "roll-back": lambda control, _: control.roll_back(),
    "retry": _retry,
    "skip": _skip,
}
