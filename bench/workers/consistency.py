"""How soon a query sees what was committed: Twofold's read model of baskets, kept in this process or in another one."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from dataclasses import dataclass, replace
from typing import Annotated

from bench import workload
from twofold import Application, Event, Key, Projection, Query, on


@dataclass(frozen=True, kw_only=True)
class Filled(Event):
    basket_id: str
    quantity: int


@dataclass(frozen=True)
class Basket:
    basket_id: Annotated[str, Key()]
    quantity: int = 0


class Baskets(Projection[Basket]):
    name = "baskets"

    @on(Filled)
    def filled(self, row: Basket | None, event: Filled) -> Basket:
        row = row or Basket(event.basket_id)
        return replace(row, quantity=row.quantity + event.quantity)


@dataclass(frozen=True)
class GetBasket(Query[Basket | None]):
    basket_id: str


def build(url: str, *, synchronize: bool) -> Application:
    app = Application(url, synchronize=synchronize)
    baskets = app.projections.add(Baskets())

    async def get(query: GetBasket) -> Basket | None:
        return await baskets.get(query.basket_id)

    app.queries.register(GetBasket, get)
    return app


async def measure(url: str, commits: int, *, synchronize: bool) -> float:
    """Return the median of the milliseconds from a commit to the answer that shows it."""
    taken = []
    async with build(url, synchronize=synchronize) as app:
        before = await app.queries.dispatch(GetBasket("b"), after=await app.store.head(), timeout=60)
        quantity = before.quantity if before else 0
        for _ in range(commits):
            receipt = await app.store.append_events(
                f"{workload.STREAM_TYPE}-b", workload.STREAM_TYPE, [Filled(basket_id="b", quantity=1)],
                expected_version=quantity,
            )  # fmt: skip
            start = time.perf_counter()
            basket = await app.queries.dispatch(GetBasket("b"), after=receipt, timeout=60)
            taken.append(time.perf_counter() - start)
            quantity += 1
            if basket is None or basket.quantity != quantity:
                raise AssertionError(f"saw {basket} instead of {quantity}")
    return statistics.median(taken) * 1000


async def _synchronize(url: str) -> None:
    async with build(url, synchronize=True):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_synchronize(sys.argv[1]))
