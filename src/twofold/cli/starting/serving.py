"""`twofold run`: a worker with the dashboard beside it, for the machine of a developer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from twofold.application import Application
from twofold.cli.applications import load
from twofold.cli.output import Json, say, say_document
from twofold.cli.starting.log_lines import log_to_stderr
from twofold.cli.starting.working import (
    Code,
    Every,
    Url,
    in_a_context_of_its_own,
    keep_in_step,
    say_standing,
    say_standing_as_json,
    signalled,
)

if TYPE_CHECKING:
    from starlette.types import ASGIApp

HOST = "127.0.0.1"
Port = Annotated[
    int, Parameter(help="The port on 127.0.0.1; 0 takes any free one.", validator=Number(gte=0, lte=65535))
]
AllowChanges = Annotated[
    bool, Parameter(negative="", help="Let the dashboard pause, rebuild, retry, skip and cancel, too.")
]


def run(
    application: Code,
    /,
    *,
    url: Url = "",
    port: Port = 8765,
    allow_changes: AllowChanges = False,
    every: Every = 5.0,
    as_json: Json = False,
) -> int:
    """Keep an application in step, as `twofold worker` does, and show it on a dashboard on this machine.

    The dashboard answers this machine's own browser, and changes nothing without --allow-changes. To let others look,
    mount it in your web application. Your web application itself is started by its own server, such as uvicorn.

    Example: `twofold run orders.app:build --url sqlite:///orders.db --port 8765`
    """
    log_to_stderr(as_json=as_json)
    require_server()
    app = load(application, url)
    return in_a_context_of_its_own(serve(app, port, allow_changes=allow_changes, every=every, as_json=as_json))


def require_server() -> None:
    """Find out whether there is what serves the dashboard.

    Raises:
        ModuleNotFoundError: the extra is not installed.
    """
    try:
        import jinja2  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        text = f"the dashboard's server needs {error.name}: pip install 'twofold[run]'"
        raise ModuleNotFoundError(text, name=error.name) from None


async def serve(
    app: Application, port: int, *, allow_changes: bool = False, every: float = 5.0, as_json: bool = False
) -> int:
    """Start an application, keep it in step and show its dashboard until a signal; return the exit code.

    Raises:
        ValueError: the port is taken.
    """
    with _listening(port) as listener:
        async with app:
            address = f"http://{HOST}:{listener.getsockname()[1]}/"
            rights = "it may change things" if allow_changes else "it changes nothing; --allow-changes lets it"
            say_document({"dashboard": address}) if as_json else say(f"dashboard at {address} ({rights})")
            with signalled() as stop:
                working = _work(app, stop, every, as_json=as_json)
                code, _ = await asyncio.gather(working, _answer(_site(app, allow_changes), listener, stop))
    return code


async def _work(app: Application, stop: asyncio.Event, every: float, *, as_json: bool) -> int:
    try:
        return await keep_in_step(app, stop, every, say_standing_as_json if as_json else say_standing)
    finally:
        stop.set()


def _site(app: Application, allow_changes: bool) -> ASGIApp:
    from starlette.requests import Request

    from twofold.dashboard import Access, dashboard, local_readers

    def local_operators(request: Request) -> Access:
        return Access.NONE if local_readers(request) is Access.NONE else Access.CHANGE

    return dashboard(app, grant=local_operators if allow_changes else local_readers)


async def _answer(site: ASGIApp, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve a site until an event is set."""
    import uvicorn

    class Server(uvicorn.Server):
        """A server that leaves the signals to `signalled`."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def on_tick(self, counter: int) -> bool:
            return stop.is_set() or await super().on_tick(counter)

    config = uvicorn.Config(
        site, lifespan="off", log_config=None, access_log=False, log_level="warning", timeout_graceful_shutdown=1,
        proxy_headers=False,
    )  # fmt: skip
    try:
        await Server(config).serve(sockets=[listener])
    finally:
        stop.set()


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        text = f"port {port} of {HOST} cannot be used ({error.strerror}); choose another one with --port, or --port 0"
        raise ValueError(text) from None
