"""The first page: what is wrong comes first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response

from twofold.application import Application
from twofold.dashboard.live import Live
from twofold.dashboard.rendering import is_part, page
from twofold.inspection import EventSearch, search_events
from twofold.inspection.parked import parked_by_cause
from twofold.monitoring.status import ApplicationStatus
from twofold.processes.processes import ProcessStatus
from twofold.telemetry import tallies

NEWEST = 10
"""Events on the first page."""


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Something that is wrong."""

    what: str
    """The kind and the name of what has it."""
    text: str
    href: str


async def show_overview(app: Application, live: Live, request: Request) -> Response:
    """Show what is wrong, how late everything is, and the newest events."""
    found = await live.look()
    groups = await parked_by_cause(app.projections, found.projections)
    newest = await search_events(app.store, EventSearch(newest_first=True), limit=NEWEST)
    processes = [each for each in found.processes if each.counts != type(each.counts)()]
    return page(
        request, "_overview.html" if is_part(request) else "overview.html", title="Overview", found=found,
        troubles=list(_troubles(found)), groups=groups, newest=newest.events, oldest=_oldest_timer(found.processes),
        late=sorted(found.projections, key=lambda each: (-each.lag, each.name))[:8], processes=processes,
        tallies=tallies(),
    )  # fmt: skip


def _troubles(found: ApplicationStatus) -> Iterator[Trouble]:
    names = {each.name for each in found.processes}
    for projection in found.projections:
        if projection.name not in names:
            for text in projection.problems:
                yield Trouble(what=projection.name, text=text, href=f"/projections/{projection.name}")
    for process in found.processes:
        for text in process.problems:
            yield Trouble(what=process.name, text=text, href=f"/processes/{process.name}")


def _oldest_timer(processes: list[ProcessStatus]) -> timedelta:
    return max((each.counts.timer_late for each in processes), default=timedelta())
