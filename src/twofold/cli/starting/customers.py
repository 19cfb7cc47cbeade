"""The process that `twofold demo` kills: it orders as fast as it can, and prints the number of each order taken."""

from __future__ import annotations

import asyncio
import itertools
import sys
from uuid import UUID, uuid5

from twofold import Application
from twofold.cli.starting.teashop import TEAS, TakeOrder, build

CUSTOMERS = 64
ORDERS = UUID("5d0c1c2e-6a0f-4a53-9b8e-0f8f6d3c7a11")
"""Names the orders: one that is sent again after a crash has the id that it had before."""


async def order(app: Application, first: int) -> None:
    """Order without an end, from a number on, with many customers at the same moment."""
    numbers = itertools.count(first)

    async def customer() -> None:
        for number in numbers:
            command_id = uuid5(ORDERS, str(number))
            tea = TEAS[number % len(TEAS)]
            taken = await app.commands.dispatch(TakeOrder(command_id=command_id, number=number, tea=tea))
            print(taken, flush=True)  # noqa: T201 only now is it acknowledged

    await asyncio.gather(*(customer() for _ in range(CUSTOMERS)))


async def _main(url: str, first: str) -> None:
    async with build(url) as app:
        await order(app, int(first))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
