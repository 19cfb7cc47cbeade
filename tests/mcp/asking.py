"""An agent's client: the official one, over the standard input and output of the real command."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from mcp.client import Client
from tests.mcp.shop import Pay, PlaceOrder, build, build_for_tenants
from tests.synchronizing import PATIENCE, until

from mcp import StdioServerParameters, stdio_client
from twofold import Application, metadata
from twofold.tenants import all_tenants

ROOT = Path(__file__).parents[2]

Question = Callable[[Client], Awaitable[Any]]


def ask(question: Question, *arguments: str, cwd: Path = ROOT, environment: Mapping[str, str] | None = None) -> Any:
    """Start `twofold mcp`, put questions, and return what comes of them once the server has ended."""

    async def session() -> Any:
        parameters = StdioServerParameters(
            command=sys.executable, args=["-m", "twofold", "mcp", *arguments], cwd=cwd,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{cwd}", **(environment or {})},
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE), Client(stdio_client(parameters)) as client:
            return await question(client)

    return asyncio.run(session())


async def answer(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """Return what a tool answers, which must be no error."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return dict(result.structured_content)


async def refusal(client: Client, tool: str, **arguments: Any) -> str:
    """Return the text of the error of a tool."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    [content] = result.content
    return str(getattr(content, "text", ""))


def sell(url: str, *, tenants: bool = False) -> None:
    """Fill a database: two orders, of which one has a payment that a projection fails on."""

    async def work() -> None:
        async with (build_for_tenants if tenants else build)(url) as app:
            with metadata(user="ann", **({"tenant": "acme"} if tenants else {})):
                await app.commands.execute(PlaceOrder(order="o1", name="Annabelle Quux"))
                await app.commands.execute(Pay(order="o1", amount=5))
                await app.commands.execute(Pay(order="o1", amount=13))
                await app.commands.execute(PlaceOrder(order="o2", name="Ben Quux", note="long " * 5_000))
            with all_tenants():
                await until(lambda: _is_done(app))

    asyncio.run(work())


async def _is_done(app: Application) -> bool:
    statuses = await app.projections.status()
    return all(each.position == each.head for each in statuses) and any(each.parked for each in statuses)
