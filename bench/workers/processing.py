"""How many inputs of a process a second: each event sends a command, whose outcome is an input, too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.workers.projecting import PATIENCE
from twofold import NO_STREAM, Application, Command, Event, EventQuery
from twofold.processes import Process, starts


@dataclass(frozen=True, kw_only=True)
class OrderPlaced(Event):
    order: str


@dataclass(frozen=True, kw_only=True)
class PaymentRequested(Event):
    order: str


@dataclass(frozen=True, kw_only=True)
class RequestPayment(Command[None]):
    order: str


async def measure(url: str, name: str, events: int) -> float:
    """Return the inputs per second, from the first append until the last outcome is taken in.

    Raises:
        AssertionError: a command took effect for an order not at all, or twice.
    """
    app = Application(url)

    async def request(command: RequestPayment) -> None:
        requested = [PaymentRequested(order=command.order)]
        await app.store.append_events(
            f"Payment-{name}-{command.order}", "Payment", requested, expected_version=NO_STREAM
        )

    app.commands.register(RequestPayment, request)
    app.processes.add(_process(name))
    async with app:
        before, began = await app.store.head(), time.perf_counter()
        for first in range(0, events, 1000):
            await app.store.append([OrderPlaced(order=f"{first + number}") for number in range(min(1000, events))])
        async with asyncio.timeout(PATIENCE):
            while await _inputs(app, name) < 2 * events:  # noqa: ASYNC110  # nothing signals it
                await asyncio.sleep(0.01)
        taken = time.perf_counter() - began
        await _check_effects(app, before, events)
        return 2 * events / taken


async def _check_effects(app: Application, before: int, events: int) -> None:
    query = EventQuery.of(PaymentRequested)
    orders = [recorded.event.order async for recorded in app.store.read(query, after=before)]
    if len(orders) != events or len(set(orders)) != events:
        raise AssertionError(f"{len(orders)} payments of {len(set(orders))} orders were requested, instead of {events}")


def _process(process_name: str) -> Process[None]:
    class Bill(Process[None]):
        name = process_name

        @starts(OrderPlaced, key="order")
        def placed(self, state: None, event: OrderPlaced) -> Iterator[object]:
            yield RequestPayment(order=event.order)

        def is_completed(self, state: None) -> bool:
            return False

    return Bill()


async def _inputs(app: Application, name: str) -> int:
    found: list[tuple[Any, ...]] = await app.projections.databases[0].query(
        f'SELECT coalesce(sum(version), 0) FROM "{name}__1"'
    )
    return int(found[0][0])
