"""A line to the server that breaks at the worst moment: when the server has answered, and nobody has heard it."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

from tests.engines.postgres.lines import listening


class WeakLine:
    """A proxy on a loopback port in front of a server's unix socket."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / ".s.PGSQL.5432"
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost = asyncio.Condition()
        self.swallow = 0
        """So many of the next answers are lost, and the connection with them."""
        self.swallowed = 0
        self.odds = 0.0
        """How probable it is that an append is lost on its way, or its answer, and the connection with it."""
        self.chance = random.Random()
        self.port = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        from_server, to_server = await asyncio.open_unix_connection(self._socket)
        line = _Line(self)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(asyncio.CancelledError):  # the streams would log it
                async with asyncio.TaskGroup() as both:
                    both.create_task(line.forward(reader, to_server, to_client=writer, answers=False))
                    both.create_task(line.forward(from_server, writer, to_client=writer, answers=True))
        finally:
            for each in (writer, to_server):
                each.close()
            self._tasks.discard(task)

    async def lost(self, wanted: int) -> None:
        """Wait until so many answers were lost."""
        async with self._lost:
            await self._lost.wait_for(lambda: self.swallowed >= wanted)

    async def note_loss(self) -> None:
        """Count an answer that was lost."""
        async with self._lost:
            self.swallowed += 1
            self._lost.notify_all()

    async def end(self) -> None:
        """Close all that is still open."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Line:
    """One connection through the proxy."""

    def __init__(self, weak: WeakLine) -> None:
        self._weak = weak
        self._appends = False

    async def forward(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        *,
        to_client: asyncio.StreamWriter,
        answers: bool,
    ) -> None:
        try:
            while data := await source.read(65536):
                self._appends = self._appends or b"FROM twofold_append" in data
                if self._is_lost(answers):
                    if answers:
                        await self._weak.note_loss()
                    elif self._weak.chance.random() < 0.5:
                        target.write(data[: self._weak.chance.randrange(len(data))])
                    _reset(to_client)
                    break
                target.write(data)
                await target.drain()
        except OSError:
            pass
        finally:
            target.close()

    def _is_lost(self, answers: bool) -> bool:
        if answers and self._weak.swallow:
            self._weak.swallow -= 1
            return True
        return self._appends and self._weak.chance.random() < self._weak.odds * (1.0 if answers else 0.3)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, as a firewall or a dying host does."""
    line: socket.socket = writer.get_extra_info("socket")
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def weak_line(folder: Path) -> AbstractAsyncContextManager[WeakLine]:
    """Return a line to the server whose socket lies in a folder."""
    return listening(WeakLine(folder))
