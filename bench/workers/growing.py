"""Whether Twofold stays as fast as its log grows: what one request costs on a small log and on a large one."""

from __future__ import annotations

import asyncio
import itertools
import resource
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Annotated

from twofold import (
    ANY,
    Application,
    DecisionModel,
    Event,
    EventQuery,
    Index,
    Key,
    Projection,
    RecordedEvent,
    Tag,
    on,
)

CUSTOMERS = 50_000
ROWS = 200_000
CHUNK = 5_000
PROBES = 20
"""Customers who have ten events each, however long the log is: those that the requests are about."""
PATIENCE = 3600.0


@dataclass(frozen=True, kw_only=True)
class Booked(Event):
    order: Annotated[str, Tag("order")]
    customer: Annotated[str, Tag("customer")]
    amount: int


@dataclass(frozen=True)
class Order:
    order: Annotated[str, Key()]
    customer: Annotated[str, Index()]
    amount: int


class Orders(Projection[Order]):
    name = "orders"

    @on(Booked)
    def booked(self, row: Order | None, event: Booked) -> Order:
        return Order(event.order, event.customer, (row.amount if row else 0) + event.amount)


def booking(number: int, chance: Random) -> Booked:
    """Return an event of a customer: a few have many events, most have few, as it is in shops."""
    customer = f"c{int(CUSTOMERS * chance.random() ** 3)}"
    if number % 500 == 0 and number < 500 * PROBES * 10:
        customer = f"probe-{number // 500 % PROBES}"
    return Booked(order=f"o{number % ROWS}", customer=customer, amount=number % 97)


def spent(customer: str) -> DecisionModel[int]:
    """Return the decision model of what a customer has spent, from ten events somewhere in a long log."""

    def add(state: int, recorded: RecordedEvent[Booked]) -> int:
        return state + recorded.event.amount

    return DecisionModel(query=EventQuery.of(Booked, tags=[f"customer:{customer}"]), initial_state=0, evolve=add)


class Growing:
    """One application on a log that is made longer between the measurements."""

    def __init__(self, url: str, runner: asyncio.Runner) -> None:
        self._url, self._runner = url, runner
        self._chance = Random(7)
        self._numbers = itertools.count()

    def grow(self, events: int) -> float:
        """Bring the log to a length, let the read model follow, and return the events per second of both."""
        return self._runner.run(self._grow(events))

    def request(self, what: str, times: int) -> float:
        """Return the milliseconds that one request takes, the median of some."""
        return self._runner.run(self._request(what, times))

    def start(self) -> float:
        """Return the milliseconds until an application on this log has started."""
        return self._runner.run(self._start())

    def memory(self) -> float:
        """Return the most memory that this process has used, in megabytes."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    async def _grow(self, events: int) -> float:
        app = self._application()
        start = time.perf_counter()
        async with app:
            head = await app.store.head()
            while head < events:
                count = min(CHUNK, events - head)
                receipt = await app.store.append([booking(head + n, self._chance) for n in range(count)])
                head = int(receipt.position)
            await app.projections.wait(head, PATIENCE)
        return events / (time.perf_counter() - start)

    async def _start(self) -> float:
        start = time.perf_counter()
        async with self._application():
            return (time.perf_counter() - start) * 1000

    async def _request(self, what: str, times: int) -> float:
        app = self._application()
        async with app:
            await app.projections.wait(await app.store.head(), PATIENCE)
            taken = []
            for _ in range(times):
                call = self._call(app, what, f"probe-{self._chance.randrange(PROBES)}")
                start = time.perf_counter()
                await call()
                taken.append(time.perf_counter() - start)
            return statistics.median(taken) * 1000

    def _call(self, app: Application, what: str, customer: str) -> Callable[[], Awaitable[object]]:
        event = Booked(order=f"o{self._chance.randrange(ROWS)}", customer="another", amount=1)

        async def append() -> object:
            return await app.store.append_events(f"Order-{event.order}", "Order", [event], expected_version=ANY)

        async def decide() -> object:
            decision = await app.store.decide(spent(customer))
            return await app.store.append([event], condition=decision.condition)

        async def read() -> object:
            return [each async for each in app.store.read(spent(customer).query)]

        async def get() -> object:
            return await self._orders.get(event.order)

        async def page() -> object:
            return await self._orders.page(where=[("customer", "=", customer)], page_size=20)

        return {"append": append, "decide": decide, "read": read, "get": get, "page": page}[what]

    def _application(self) -> Application:
        app = Application(self._url)
        self._orders = app.projections.add(Orders())
        return app
