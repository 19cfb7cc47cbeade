"""One contender over HTTP: starts its server, one worker on a free port, and asks it as the benchmark wants."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.http import client
from bench.http.bodies import ORDER
from bench.worker import serve

STORED = 500
"""Orders that the GETs ask for, in turn."""
PATIENCE = 30.0


class HttpContender:
    """A server of this contender's, in a process of its own for each measurement.

    Args:
        factory: `module:function` that makes the ASGI application; it finds the database in the variable `PLACE`.
        place: of the database.
        worker: a module that runs the projections in another process, if the contender has any.
    """

    def __init__(self, factory: str, place: str, worker: str = "") -> None:
        self._factory = factory
        self._place = place
        self._worker = worker

    def http(self, request: str, seconds: float, apart: int) -> float | None:
        """Return the requests per second; `apart` says whether another process runs the projections."""
        if apart and not self._worker:
            return None
        with ExitStack() as stack:
            port = stack.enter_context(self._serving(apart))
            return asyncio.run(_measure(port, request, seconds))

    @contextmanager
    def _serving(self, apart: int) -> Iterator[int]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        environment = {**os.environ, "PLACE": self._place, "APART": "1" if apart else ""}
        command = [
            sys.executable, "-m", "uvicorn", "--factory", self._factory, "--port", str(port), "--no-access-log",
            "--log-level", "warning",
        ]  # fmt: skip
        with ExitStack() as stack:
            for each in [command, *([[sys.executable, "-m", self._worker]] if apart else [])]:
                process = stack.enter_context(subprocess.Popen(each, env=environment))
                stack.callback(process.terminate)
            _wait_for(port)
            yield port


async def _measure(port: int, request: str, seconds: float) -> float:
    order = client.post("/orders", ORDER)
    if request == "post":
        await client.rate(port, lambda: order, b"HTTP/1.1 201", min(0.5, seconds))
        return await client.rate(port, lambda: order, b"HTTP/1.1 201", seconds)
    ids = [json.loads((await client.ask(port, order))[1])["order_id"] for _ in range(STORED)]
    await _until_shown(port, ids[-1])
    lookups = itertools.cycle([client.get(f"/orders/{each}") for each in ids])
    await client.rate(port, lambda: next(lookups), b"HTTP/1.1 200", min(0.5, seconds))
    return await client.rate(port, lambda: next(lookups), b"HTTP/1.1 200", seconds)


async def _until_shown(port: int, order: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await client.ask(port, client.get(f"/orders/{order}")))[0] != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the server did not start")


@contextmanager
def contending(factory: str, place: str, worker: str = "") -> Iterator[HttpContender]:
    """Return a contender, for `bench.worker.serve`."""
    yield HttpContender(factory, place, worker)


def main(factory: str, worker: str = "") -> None:
    """Answer the benchmark's requests; the database's place is the first argument."""
    serve(contending(factory, sys.argv[1], worker))
