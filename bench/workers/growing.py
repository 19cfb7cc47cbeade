"""Whether Twofold stays as fast as its log grows: what one request costs on a small log and on a large one."""

from __future__ import annotations

import asyncio
import json
import resource
import sqlite3
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Annotated

import psycopg

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
LOG_TABLES = ("twofold_events", "twofold_event_tags", "twofold_commands")


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

    def grow(self, events: int) -> float:
        """Bring the log to a length, let the read model follow, and return the events per second of both."""
        return self._runner.run(self._grow(events))

    def request(self, what: str, times: int) -> float:
        """Return the milliseconds that one request takes, the median of some."""
        return self._runner.run(self._request(what, times))

    def start(self) -> float:
        """Return the milliseconds until an application on this log has started."""
        return self._runner.run(self._start())

    def size(self) -> float:
        """Return the bytes of an event in the log, with its indexes."""
        return log_bytes(self._url) / self._runner.run(self._head())

    def memory(self) -> float:
        """Return the most memory that this process has used, in megabytes."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    async def _grow(self, events: int) -> float:
        app = self._application()
        start = time.perf_counter()
        async with app:
            begun = head = await app.store.head()
            while head < events:
                count = min(CHUNK, events - head)
                receipt = await app.store.append([booking(head + n, self._chance) for n in range(count)])
                head = int(receipt.position)
                if head % (20 * CHUNK) == 0:
                    _tell(f"{head:,} of {events:,} events, {(head - begun) / (time.perf_counter() - start):,.0f}/s")
            await app.projections.wait(head, PATIENCE)
        rate = (events - begun) / (time.perf_counter() - start)
        _tell(f"{events:,} events and their read model, {rate:,.0f} events/s")
        return rate

    async def _head(self) -> int:
        async with self._application() as app:
            return await app.store.head()

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


def log_bytes(url: str) -> float:
    """Return how much the tables of the log take on the disk, with their indexes."""
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            of_log = "SELECT name FROM sqlite_schema WHERE tbl_name IN (SELECT value FROM json_each(?))"
            query = f"SELECT sum(pgsize) FROM dbstat WHERE aggregate AND name IN ({of_log})"
            return float(connection.execute(query, [json.dumps(LOG_TABLES)]).fetchone()[0])
    with psycopg.connect(url) as server:
        query = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname = ANY(%s)"
        row = server.execute(query, [list(LOG_TABLES)]).fetchone()
        return float(row[0]) if row else 0.0


def _tell(text: str) -> None:
    print(f"bench: growth: {text}", file=sys.stderr, flush=True)
