"""Lines to a server that stand between it and its clients, and misbehave as their classes say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar


class Line(Protocol):
    """A proxy on a loopback port in front of a server's unix socket."""

    port: int

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""

    async def end(self) -> None:
        """Close all connections."""


L = TypeVar("L", bound=Line)


@asynccontextmanager
async def listening(line: L) -> AsyncIterator[L]:
    """Yield a line that takes connections."""
    server = await asyncio.start_server(line, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        server.close()
        await line.end()
