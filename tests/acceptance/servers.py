"""The Orders server as a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import socket
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
async def serving(database: Path | str, **environment: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run a server on a free port, on a SQLite file or a database with a URL; yield its process and its own URL."""
    url = f"sqlite:///{database}" if isinstance(database, Path) else database
    async with running("serve", rb"serving at (http://\S+)", PORT="0", DATABASE_URL=url, **environment) as started:
        yield started


@asynccontextmanager
async def serving_by_uvicorn(
    module: Path, database: Path, *options: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Run a module's `api` as users do, `uvicorn module:api`; yield its process and its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "uvicorn", f"{module.stem}:api", "--port", str(port), *options,
        cwd=module.parent,
        env=os.environ | {"PYTHONPATH": str(ROOT / "examples"), "DATABASE_URL": f"sqlite:///{database}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        await _said(process, rb"(Uvicorn running)", process.stderr)
        yield process, port
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def synchronizing(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process that only keeps the read models in step."""
    async with running("synchronize", rb"(in step)", DATABASE_URL=url) as (process, _):
        yield process


@asynccontextmanager
async def running(
    command: str, sign: bytes, **environment: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run a command that does not end; yield its process, and what it says when it is ready."""
    process = await start(command, **environment)
    try:
        yield process, await _said(process, sign)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _said(process: asyncio.subprocess.Process, sign: bytes, where: asyncio.StreamReader | None = None) -> str:
    where = where or process.stdout
    assert where is not None
    async with asyncio.timeout(PATIENCE):
        async for line in where:
            if found := re.search(sign, line):
                return found[1].decode()
    raise AssertionError("the process ended before it was ready")
