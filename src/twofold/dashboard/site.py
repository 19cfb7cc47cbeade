"""The site: which page answers which address."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from twofold.application import Application
from twofold.arguments import check_function, check_instance
from twofold.dashboard import events, flow, overview, processes, projections, streams
from twofold.dashboard.guard import Grant, Guard, local_readers
from twofold.dashboard.live import Live
from twofold.dashboard.rendering import page
from twofold.errors import EventNotFoundError, StorageError, TwofoldError, UnknownProcessError, UnknownProjectionError
from twofold.inspection import masked
from twofold.tenants import all_tenants

Page = Callable[[Application, Request], Awaitable[Response]]

_ASSETS = {
    "dashboard.css": "text/css",
    "dashboard.js": "text/javascript",
    "htmx.min.js": "text/javascript",
    "uplot.min.js": "text/javascript",
    "uplot.min.css": "text/css",
}
_PAGES: dict[str, Page] = {
    "/events": events.show_events,
    "/events/{which}": events.show_event,
    "/stream": streams.show_stream,
    "/projections": projections.show_projections,
    "/projections/{name}": projections.show_projection,
    "/processes": processes.show_processes,
    "/processes/{name}": processes.show_process,
    "/processes/{name}/instance": processes.show_instance,
    "/flow": flow.show_flow,
}
_CHANGES: dict[str, Page] = {
    "/projections/{name}/{change}": projections.change,
    "/processes/{name}/{change}": processes.change,
}


def dashboard(app: Application, *, grant: Grant = local_readers) -> Starlette:
    """Return the site that shows an application, to be mounted in any ASGI application.

        api.mount("/twofold", dashboard(app))

    It shows all that the log holds, of all tenants, with personal fields masked; and changes nothing unless `grant`
    allows that. It runs in the event loop of the application, and needs it started.

    Args:
        app: the application.
        grant: says for each request whether it may look, or change something, too; asynchronous or not. It may return a
            response instead, such as a redirect to a login. By default a browser on this machine may look.

    Raises:
        TypeError: an argument is of another type.
    """
    check_instance("app", app, Application)
    check_function("grant", grant)
    live = Live(app)
    routes = [
        Route("/", _shown(app, lambda app, request: overview.show_overview(app, live, request))),
        Route("/live", _shown(app, lambda _, request: live.follow(request))),
        *(Route(path, _shown(app, show)) for path, show in _PAGES.items()),
        *(Route(path, _shown(app, change), methods=["POST"]) for path, change in _CHANGES.items()),
        *(Route(f"/assets/{name}", _send_asset) for name in _ASSETS),
    ]
    handlers = dict.fromkeys((HTTPException, TwofoldError, ValueError), _refused)
    return Starlette(routes=routes, middleware=[Middleware(Guard, grant=grant)], exception_handlers=handlers)


def _shown(app: Application, show: Page) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        with all_tenants(), masked():
            return await show(app, request)

    return answer


async def _refused(request: Request, error: Exception) -> Response:
    """Return what tells of an error, under the status that fits."""
    if isinstance(error, HTTPException):
        return page(request, "error.html", error.status_code, text=error.detail)
    missing = isinstance(error, EventNotFoundError | UnknownProjectionError | UnknownProcessError)
    status = (
        404 if missing else 503 if isinstance(error, StorageError) else 409 if isinstance(error, TwofoldError) else 400
    )
    return page(request, "error.html", status, text=str(error))


async def _send_asset(request: Request) -> Response:
    name = request.url.path.rpartition("/")[2]
    content = files("twofold.dashboard").joinpath("assets", name).read_bytes()
    return Response(content, media_type=_ASSETS[name], headers={"Cache-Control": "private, max-age=3600"})
