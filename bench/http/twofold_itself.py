"""Orders, the reference application, with its projections in the server's process or in another one."""

from __future__ import annotations

import asyncio
import os

from bench.http.contender import main
from fastapi import FastAPI
from orders.app import build
from orders.http import build_api


def make() -> FastAPI:
    """Return the API."""
    return build_api(build(os.environ["PLACE"], synchronize=not os.environ["APART"]))


async def _synchronize() -> None:
    async with build(os.environ["PLACE"]):
        await asyncio.Event().wait()


if __name__ == "__main__":
    if "APART" in os.environ:
        asyncio.run(_synchronize())
    else:
        main("bench.http.twofold_itself:make", "bench.http.twofold_itself")
