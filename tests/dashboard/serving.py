"""A site behind a real server and a real socket, in the loop of the test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from tests.synchronizing import until


@asynccontextmanager
async def served(site: ASGIApp, **options: Any) -> AsyncIterator[str]:
    """Serve a site, and yield its address; `options` are uvicorn's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        options = {"lifespan": "off", "log_level": "warning", "timeout_graceful_shutdown": 1, **options}
        config = uvicorn.Config(site, **options)
        server = uvicorn.Server(config)
        running = asyncio.ensure_future(server._serve([listener]))

        async def is_ready() -> bool:
            return server.started

        await until(is_ready)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await running
