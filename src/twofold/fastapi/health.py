"""Two addresses for probes: whether the process runs, and whether it can answer requests."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi.responses import JSONResponse

from fastapi import FastAPI, Request, Response
from twofold.application import Application
from twofold.arguments import check_instance, check_number, check_path
from twofold.fastapi.problems import problem
from twofold.monitoring.status import ask_within
from twofold.synchronizer.status import ProjectionStatus


def add_health(api: FastAPI, app: Application, *, path: str = "/health", max_wait: float = 2.0) -> None:
    """Answer probes: `/health/live` while the process runs, `/health/ready` while it can answer requests.

    - `/health/live` asks no database: a restart of this process would not bring one back.
    - `/health/ready` is 503, with problem details, while a database does not answer, and while a read model of this
      application was never made, or is later than its `max_lag` allows (without one, than the 30 seconds of
      `SynchronizerOptions.unattended`). `errors` names the read models; causes are in the log and in
      `app.projections.status()`. Parked events, reactions and processes are no reason: they would take away all
      servers at once, which answer all the same.

    Probes that come together share one look at the databases, also with scrapes and the dashboard. The answers are
    those of all tenants.

    Args:
        api: the FastAPI application.
        app: the application that must be ready.
        path: below which address.
        max_wait: seconds in which the databases must answer. Raised, a server whose database is away is taken away
            later; lowered, a busy one is taken for one that is away.

    Raises:
        ValueError: the path does not begin with a slash, or ends with one.
    """
    check_instance("api", api, FastAPI)
    check_instance("app", app, Application)
    check_path("path", path)
    check_number("max_wait", max_wait)

    async def show_live(request: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def show_ready(request: Request) -> Response:
        found = await ask_within(app.status, max_wait, request.url.path)
        if found is None:
            return _refuse("a database does not answer", request)
        own = {runner.name for runner in app.projections.runners if runner.has_read_model}
        late = [text for each in found.projections if each.name in own for text in _problems(each)]
        if late:
            return _refuse("read models are later than allowed", request, late)
        return JSONResponse({"status": "ready"})

    api.add_route(f"{path}/live", show_live, include_in_schema=False)
    api.add_route(f"{path}/ready", show_ready, include_in_schema=False)


def _refuse(detail: str, request: Request, late: list[tuple[str, str]] | None = None) -> Response:
    headers = {"Retry-After": "1"}
    return problem(503, detail, kind="NotReadyError", fields=late or (), instance=request.url.path, headers=headers)


def _problems(status: ProjectionStatus) -> Iterator[tuple[str, str]]:
    """Yield the problems of a read model if queries cannot be answered from it as it promises, without their causes."""
    allowed = status.patience if status.max_lag is None else status.max_lag
    is_read = status.generation > 0  # one that was never made, or whose database does not answer, has none
    if not is_read or status.lag > allowed:
        for each in status.problems:
            yield status.name, each.partition(":")[0]
