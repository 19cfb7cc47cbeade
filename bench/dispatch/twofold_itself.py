"""Twofold: an application with three middlewares beside its own for telemetry."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bench.dispatch.bare import Add, add
from bench.dispatch.calls import Call, main
from twofold import Application


async def first(command: Any, call_next: Any) -> Any:
    return await call_next(command)


async def second(command: Any, call_next: Any) -> Any:
    return await call_next(command)


async def third(command: Any, call_next: Any) -> Any:
    return await call_next(command)


@asynccontextmanager
async def opened() -> AsyncIterator[Call]:
    app = Application(sys.argv[1], middleware=[first, second, third])
    app.commands.register(Add, add)
    dispatch = app.commands.dispatch
    async with app:
        yield lambda number: dispatch(Add(number))


if __name__ == "__main__":
    main(opened)
