"""The Orders server as a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0
"""Seconds for a process to begin or end."""


async def start(*arguments: str, **environment: str) -> asyncio.subprocess.Process:
    """Start `python -m orders`."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "orders",
        *arguments,
        env=os.environ | {"PYTHONPATH": str(ROOT / "examples")} | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def serving(database: Path, **environment: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run a server on a free port; yield its process and its URL."""
    server = await start("serve", PORT="0", DATABASE_URL=f"sqlite:///{database}", **environment)
    try:
        yield server, await _url(server)
    finally:
        if server.returncode is None:
            server.kill()
        await server.communicate()


async def _url(server: asyncio.subprocess.Process) -> str:
    assert server.stdout is not None
    async with asyncio.timeout(PATIENCE):
        async for line in server.stdout:
            if found := re.search(rb"serving at (http://\S+)", line):
                return found[1].decode()
    raise AssertionError("the server ended before it said where it serves")
