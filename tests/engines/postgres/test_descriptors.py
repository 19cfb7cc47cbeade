"""A lost connection leaves nothing behind in the event loop: its number is soon that of another socket."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from tests.postgres_servers import PostgresServer
from tests.synchronizing import engine_at, opened, until, write

from twofold.options import Options, PostgresOptions


def closed_descriptors() -> list[int]:
    """Return the numbers that the event loop watches although no file has them."""
    loop: Any = asyncio.get_running_loop()
    found = []
    for descriptor in list(loop._selector.get_map()):
        try:
            os.fstat(descriptor)
        except OSError:
            found.append(descriptor)
    return found


async def test_the_event_loop_forgets_the_sockets_of_lost_connections(
    own_server: Callable[..., PostgresServer],
) -> None:
    server = own_server()
    with server.database() as url:
        async with engine_at(url, Options(postgres=PostgresOptions(poll=30.0))) as (engine, store):
            head = await write(store, opened("a"))
            waiting = asyncio.create_task(engine.log.wait(head + 1, 30.0))
            await until(lambda: listens(server))
            server.stop()
            for _ in range(50):
                await asyncio.sleep(0.01)
                assert closed_descriptors() == []
            server.start()
            await write(store, opened("b"), opened("c"))
            assert await waiting >= head + 2


async def listens(server: PostgresServer) -> bool:
    """Return once the log's listener waits for notifications."""
    await asyncio.sleep(0.5)
    return bool(server.processes)
