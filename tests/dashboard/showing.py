"""An application with something to show: orders that are paid, shipped and given up, and what is wrong with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount
from tests.synchronizing import until

from orders.app import build
from orders.commands import CancelOrder, CreateOrder
from orders.events import OrderCancelled, OrderCreated, OrderShipped
from orders.fulfilment import Fulfilling
from orders.items import Address, OrderItem
from twofold import Application, Command, Event, Key, Projection, Tag, on
from twofold.dashboard import Access, Grant, dashboard
from twofold.options import Backoff, Options, SynchronizerOptions
from twofold.processes import Process, after, due, starts

BASE = "/ops/twofold"
ORDERS = 6


@dataclass(frozen=True)
class Parcel:
    order_id: Annotated[str, Key()]


class Parcels(Projection[Parcel]):
    """Fails on the orders of one customer."""

    name = "parcels"
    max_lag = timedelta(seconds=60)

    @on(OrderCreated)
    def created(self, row: Parcel | None, event: OrderCreated) -> Parcel:
        if event.customer_id == "customer-1":
            raise LookupError(f"there is no address of <{event.customer_id}>")
        return Parcel(event.order_id)

    @on(OrderShipped)
    def shipped(self, row: Parcel, event: OrderShipped) -> Parcel:
        return row


@dataclass(frozen=True, kw_only=True)
class AskWhy(Command[None]):
    order: str


@dataclass(frozen=True, kw_only=True)
class Asked(Event):
    order: Annotated[str, Tag("order")]


class Enquiry(Process[int]):
    """Is stuck: nothing takes the refusal of its command."""

    name, initial = "enquiry", 0

    @starts(OrderCancelled, key="order_id")
    def cancelled(self, state: int, event: OrderCancelled) -> object:
        yield AskWhy(order=event.order_id)
        yield after(timedelta(hours=2), "reminder")

    @due("reminder")
    def overdue(self, state: int) -> object:
        return ()

    def is_completed(self, state: int) -> bool:
        return False


async def refuse(command: AskWhy) -> None:
    raise ValueError(f"nobody answers for {command.order}")


def everything(request: Request) -> Access:
    return Access.CHANGE


@asynccontextmanager
async def showing(url: str, grant: Grant = everything) -> AsyncIterator[tuple[Application, Starlette]]:
    """Start an application with trouble, and yield it with what serves its dashboard."""
    options = Options(synchronizer=SynchronizerOptions(retries=0, backoff=Backoff(first=0.01, last=0.05)))
    app = build(url, fulfilment=Fulfilling(), options=options)
    app.projections.add(Parcels())
    app.commands.register(AskWhy, refuse)
    app.processes.add(Enquiry())
    async with app:
        await fill(app)
        yield app, Starlette(routes=[Mount(BASE, dashboard(app, grant=grant))])


async def fill(app: Application) -> None:
    """Let customers order, ship some orders and give one up, until all trouble is there."""
    address = Address(street="1 Row", city="London", postal_code="W1", country="UK")
    for number in range(ORDERS):
        item = OrderItem(product_id="TEA-001", quantity=1, price=Decimal("12.90"))
        order = CreateOrder(customer_id=f"customer-{number}", items=(item,), shipping_address=address)
        order_id = await app.commands.dispatch(order)
        if number == 2:
            await app.commands.dispatch(CancelOrder(order_id=order_id, reason="changed my mind"))
    await until(lambda: troubles_of(app))


async def troubles_of(app: Application) -> bool:
    statuses = {each.name: each for each in await app.projections.status()}
    processes = {each.name: each for each in await app.processes.status()}
    return bool(statuses["parcels"].parked and processes["enquiry"].counts.stuck)
