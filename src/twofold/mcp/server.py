"""The server: which tools and texts it has, and how it tells what went wrong.

1. Each call of a tool opens the application's databases to look only, asks the function that the command line and the
   dashboard ask, and closes them.
2. The answer is cut to what an agent can read, and says what was left out.
3. What went wrong is an error of the tool, with its code and with what to do about it.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import wraps
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp.server.mcpserver.resources import TextResource
from mcp_types import ToolAnnotations

from twofold.checks.explaining import explain
from twofold.engines.urls import hide_secrets
from twofold.errors import TwofoldError
from twofold.mcp.code_tools import CodeTools
from twofold.mcp.log_tools import LogTools
from twofold.mcp.looked_at import LookedAt
from twofold.mcp.running_tools import RunningTools

Tool = Callable[..., Awaitable[dict[str, Any]]]

INSTRUCTIONS = (
    "Looks into an application that is built on Twofold, a framework for event sourcing and CQRS, and changes nothing. "
    "Begin with `status`. `parked_by_cause` shows what code fails on, with tracebacks; `search_events`, `trace_event` "
    "and `show_state` tell what happened and why; `message_flow`, `check` and `event_schemas` are about the code; "
    "`explain` says what an error's code means. Read twofold://agents/AGENTS.md before you write code."
)
TEXTS = {
    "llms.txt": "The pages of the documentation, with a sentence on each.",
    "AGENTS.md": "How to write applications on Twofold: rules, examples, what to do about each error.",
    "SKILL.md": "The same, as a skill.",
}


def agent_server(looked_at: LookedAt, *, url: str = "") -> MCPServer:
    """Return the server that looks at an application.

    Args:
        looked_at: the application.
        url: of its database, whose password no answer may hold.
    """
    server = MCPServer(
        "twofold", title="Twofold", version=version("twofold"), instructions=INSTRUCTIONS, log_level="WARNING"
    )
    for tool in tools_of(looked_at):
        server.add_tool(
            _answering(tool, looked_at, url),
            description=inspect.getdoc(tool),
            annotations=ToolAnnotations(
                read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
            ),
        )
    for name, description in TEXTS.items():
        text = files("twofold").joinpath("agents", name).read_text("utf-8")
        server.add_resource(
            TextResource(
                uri=f"twofold://agents/{name}", name=name, description=description, mime_type="text/markdown", text=text
            )
        )
    server.resource(
        "twofold://codes/{code}", name="code", description="What the code of an error or a finding means.",
        mime_type="text/markdown",
    )(_explained)  # fmt: skip
    return server


def tools_of(looked_at: LookedAt) -> list[Tool]:
    """Return all tools, in the order in which they are listed."""
    running, log, code = RunningTools(looked_at), LogTools(looked_at), CodeTools(looked_at)
    return [
        running.status, running.parked_by_cause, running.show_parked, running.list_instances, running.show_instance,
        log.search_events, log.show_event, log.trace_event, log.show_state,
        code.message_flow, code.check, code.event_schemas, code.check_schema, running.doctor, code.explain,
    ]  # fmt: skip


def _answering(tool: Tool, looked_at: LookedAt, url: str) -> Tool:
    """Return a tool that tells errors with their codes, and that its code is older than the files."""

    @wraps(tool)
    async def answer(**arguments: Any) -> dict[str, Any]:
        try:
            found = await tool(**arguments)
        except Exception as error:  # the application's own code folds and declares
            raise ToolError(hide_secrets(refusal(error), url) if url else refusal(error)) from error
        changed = looked_at.changed_files()
        return {**found, **({"restart this server, as these files have changed": changed} if changed else {})}

    return answer


def refusal(error: Exception) -> str:
    """Return the text of an error, with its code and what to do about it."""
    if not isinstance(error, TwofoldError):
        return f"{type(error).__name__}: {error}"
    found = explain(error.code)
    return f"{error} [{error.code} {type(error).__name__}]\nWhy: {found.why}\nFix: {found.fix}"


def _explained(code: str) -> str:
    try:
        return str(explain(code))
    except ValueError as error:
        raise ResourceNotFoundError(str(error)) from None
