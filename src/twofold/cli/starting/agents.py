"""`twofold mcp`: what an application is and what has happened in it, for coding agents, without a change."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout

from twofold.cli.applications import load
from twofold.cli.output import Json
from twofold.cli.starting.working import Code, Url
from twofold.engines.looking import looking_only


async def mcp(application: Code, /, *, url: Url = "", as_json: Json = False) -> None:
    """Let a coding agent look into an application: serve the Model Context Protocol on standard input and output.

    The client of the agent starts it, and ends it by closing its input. It changes nothing: the databases are opened to
    look only, for each question, and nothing of the application is started. Personal fields are masked. With --json,
    what goes wrong at the start is told as JSON.

    Example: `twofold mcp orders.app:build --url sqlite:///orders.db`
    """
    require_sdk()
    from twofold.mcp import LookedAt, agent_server

    with looking_only(), redirect_stdout(sys.stderr):  # standard output is the protocol's alone
        looked_at = LookedAt(load(application, url))
    await agent_server(looked_at, url=url).run_stdio_async()


def require_sdk() -> None:
    """Find out whether there is the library of the protocol.

    Raises:
        ModuleNotFoundError: the extra is not installed.
    """
    try:
        import mcp  # noqa: F401
    except ModuleNotFoundError as error:
        text = f"the server for coding agents needs {error.name}: pip install 'twofold[mcp]'"
        raise ModuleNotFoundError(text, name=error.name) from None
