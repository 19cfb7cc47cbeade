"""A line to the server that goes silent: what is sent is swallowed, and no connection is closed.

So does a firewall that has forgotten a connection, and a load balancer in front of a machine that is frozen.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

from tests.engines.postgres.lines import listening


class FrozenLine:
    """A proxy on a loopback port in front of a server's unix socket."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / ".s.PGSQL.5432"
        self._lines: list[_Line] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.frozen = False
        """Whether new connections are accepted and get no answer."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        from_server, to_server = await asyncio.open_unix_connection(self._socket)
        line = _Line()
        line.questions = line.answers = not self.frozen
        self._lines.append(line)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(asyncio.CancelledError):  # the streams would log it
                async with asyncio.TaskGroup() as both:
                    both.create_task(line.forward(reader, to_server, "questions"))
                    both.create_task(line.forward(from_server, writer, "answers"))
        finally:
            for each in (writer, to_server):
                each.close()
            self._lines.remove(line)
            self._tasks.discard(task)

    def freeze(self, *, questions: bool = True, new: bool = False) -> None:
        """Let no answer through any more, and no question either unless it is to reach the server."""
        self.frozen = new
        for line in self._lines:
            line.answers, line.questions = False, not questions

    def thaw(self) -> None:
        """Let new connections work again."""
        self.frozen = False

    async def end(self) -> None:
        """Close all that is still open."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Line:
    questions = True
    answers = True

    async def forward(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, kind: str) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                if getattr(self, kind):
                    target.write(data)
                    await target.drain()
            target.close()


def frozen_line(folder: Path) -> AbstractAsyncContextManager[FrozenLine]:
    """Return a line to the server whose socket lies in a folder."""
    return listening(FrozenLine(folder))
