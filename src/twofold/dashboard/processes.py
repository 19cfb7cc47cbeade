"""Processes: their instances, and the life of one along the time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from twofold.application import Application
from twofold.dashboard.guard import checked_form
from twofold.dashboard.pictures import Bar, bars
from twofold.dashboard.rendering import is_part, link_query, moment, page, root_of
from twofold.errors import UnknownProcessError
from twofold.messages.event import EPOCH
from twofold.processes.instance import ProcessState
from twofold.processes.steps import (
    Cancelled,
    CommandDone,
    CommandRefused,
    EventReceived,
    ProcessStep,
    TimerFired,
    decode_step,
)

PAGE = 50
"""Instances on a page."""
STEPS = 200
"""Steps of an instance that are drawn; the first ones of a longer life."""


async def show_processes(app: Application, request: Request) -> Response:
    """Show all of them, those with problems first."""
    statuses = sorted(await app.processes.status(), key=lambda each: (not each.problems, each.name))
    template = "_processes.html" if is_part(request) else "processes.html"
    return page(request, template, title="Processes", statuses=statuses)


async def show_process(app: Application, request: Request) -> Response:
    """Show the instances of a process."""
    name, asked = request.path_params["name"], request.query_params
    statuses = {each.name: each for each in await app.processes.status()}
    if (status := statuses.get(name)) is None:
        raise UnknownProcessError(f"there is no process {name!r}; there are: {', '.join(sorted(statuses)) or 'none'}")
    wanted = asked.get("status", "")
    if wanted and wanted not in list(ProcessState):
        raise HTTPException(400, f"`status` is one of {', '.join(ProcessState)}, got {wanted!r}")
    is_made = status.feed is None or status.feed.is_made
    listed = app.processes.control(name).list(status=wanted, after=asked.get("after", ""), limit=PAGE)
    instances = await listed if is_made else []
    more = link_query({"status": wanted, "after": instances[-1].id}) if len(instances) == PAGE else ""
    return page(
        request, "process.html", title=name, status=status, instances=instances, wanted=wanted, more=more,
        states=list(ProcessState),
    )  # fmt: skip


async def show_instance(app: Application, request: Request) -> Response:
    """Show the life of an instance."""
    name, process_id = request.path_params["name"], request.query_params.get("id", "")
    control = app.processes.control(name)
    instance = await control.get(process_id)
    steps = [decode_step(each.payload) for each in await control.steps(process_id, limit=STEPS)]
    now = datetime.now(EPOCH.tzinfo)
    return page(
        request, "instance.html", title=f"{name} {process_id}", instance=instance,
        described=[_told(each) for each in steps],
        picture=bars(f"The life of {process_id}", list(_bars(steps, now))), is_cut=len(steps) == STEPS,
    )  # fmt: skip


async def change(app: Application, request: Request) -> Response:
    """Retry or cancel instances, and show them again."""
    fields, name = await checked_form(request), request.path_params["name"]
    control, process_id = app.processes.control(name), fields.get("id", "")
    match request.path_params["change"]:
        case "retry":
            await control.retry(process_id)
        case "cancel":
            if not process_id:
                raise ValueError("say which instance to cancel")
            await control.cancel(process_id, reason=fields.get("reason", ""))
        case _:
            raise HTTPException(404, "There is no such change.")
    tail = f"/instance?{link_query({'id': process_id})}" if process_id else ""
    return RedirectResponse(f"{root_of(request)}/processes/{name}{tail}", 303)


def _bars(steps: Sequence[ProcessStep], now: datetime) -> Iterator[Bar]:
    """Yield a bar for each input, command and timer, in the order in which they began."""
    ends = {ended: step for step in steps if (ended := _ended(step.input)) is not None}
    for number, step in enumerate(steps):
        at = step.at.timestamp()
        what = _input(step.input)
        yield Bar(text=what, kind=f"input {_kind(step.input)}", begin=at, end=at, title=f"{what}, {moment(step.at)}")
        for sent in step.sent:
            end = ends.get(sent.command_id)
            kind = "command" if end is None or isinstance(end.input, CommandDone) else "command refused"
            until = "no outcome yet" if end is None else _span(step.at, end.at)
            yield Bar(
                text=sent.command, kind=f"{kind}{'' if end else ' open'}", begin=at,
                end=max((end.at if end else now).timestamp(), at), title=f"{sent.command}: {until}",
            )  # fmt: skip
        for timer in step.timers:
            end_at, how = _end_of_timer(timer.timer, timer.due_at, steps[number + 1 :], step.at)
            yield Bar(
                text=f"timer {timer.timer}", kind=f"timer {how.partition(' ')[0]}", begin=at,
                end=max(end_at.timestamp(), at), title=f"timer {timer.timer}, due {moment(timer.due_at)}: {how}",
            )  # fmt: skip


def _end_of_timer(name: str, due_at: datetime, later: Sequence[ProcessStep], set_at: datetime) -> tuple[datetime, str]:
    """Return when a timer ended, and how; when it is due if it has not."""
    for step in later:
        if isinstance(step.input, TimerFired) and step.input.timer == name:
            return step.at, "fired"
        if name in step.cancelled or any(timer.timer == name for timer in step.timers):
            return step.at, "cancelled" if name in step.cancelled else "cancelled by setting it again"
        if step.completed or isinstance(step.input, Cancelled):
            return step.at, "cancelled at the end"
    return due_at, "waiting"


def _ended(taken: Any) -> UUID | None:
    return taken.command_id if isinstance(taken, CommandDone | CommandRefused) else None


def _span(begin: datetime, end: datetime) -> str:
    return f"after {max((end - begin) / timedelta(milliseconds=1), 0):.0f} ms"


def _kind(taken: Any) -> str:
    match taken:
        case EventReceived():
            return "event"
        case TimerFired():
            return "timer"
        case CommandRefused() | Cancelled():
            return "refused"
    return "done"


def _input(taken: Any) -> str:
    match taken:
        case EventReceived(type=name, position=position):
            return f"{name} at {position}"
        case TimerFired(timer=name):
            return f"timer {name} fired"
        case CommandDone():
            return "command done"
        case CommandRefused(error=error):
            return f"refused: {error}"
        case Cancelled():
            return "cancelled"
    return type(taken).__name__


def _told(step: ProcessStep) -> dict[str, Any]:
    """Return a step as a row of the list beside the picture."""
    taken = step.input
    return {
        "at": step.at,
        "input": _input(taken),
        "detail": taken.reason if isinstance(taken, CommandRefused | Cancelled) else "",
        "position": taken.position if isinstance(taken, EventReceived) else None,
        "sent": [each.command for each in step.sent],
        "timers": [(each.timer, each.due_at) for each in step.timers],
        "cancelled": step.cancelled,
        "completed": step.completed,
    }
