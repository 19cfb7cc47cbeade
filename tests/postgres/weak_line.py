"""A line to the server that breaks at the worst moment: when the server has answered, and nobody has heard it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any


class WeakLine:
    """A proxy on a loopback port in front of a server's unix socket."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / ".s.PGSQL.5432"
        self._tasks: set[asyncio.Task[None]] = set()
        self.swallow = 0
        """So many of the next answers are lost, and the connection with them."""
        self.swallowed = 0
        self.port = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        from_server, to_server = await asyncio.open_unix_connection(self._socket)
        async with AsyncExitStack() as lines:
            for line in (writer, to_server):
                lines.callback(line.close)
            self._start(self._forward(reader, to_server, lossy=False))
            await self._forward(from_server, writer, lossy=True)

    async def end(self) -> None:
        """Close all that is still open."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, forwarding: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(forwarding)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, lossy: bool) -> None:
        try:
            while data := await source.read(65536):
                if lossy and self.swallow:
                    self.swallow -= 1
                    self.swallowed += 1
                    break
                target.write(data)
                await target.drain()
        except OSError:
            pass
        finally:
            target.close()


@asynccontextmanager
async def weak_line(folder: Path) -> AsyncIterator[WeakLine]:
    """Yield a line to the server whose socket lies in a folder."""
    line = WeakLine(folder)
    server = await asyncio.start_server(line, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        server.close()
        await line.end()
