"""A large application to look at: what a real shop sold, fifty read models, and a process for cancelled orders."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Annotated, Any

from orders.app import build
from orders.events import OrderCancelled, OrderCreated, OrderItemAdded, OrderShipped
from orders.items import Address
from orders.retail import Invoice, read_retail_file
from twofold import NO_STREAM, Application, Command, Index, Key, Projection, on
from twofold.options import Backoff, Options, SynchronizerOptions
from twofold.processes import Process, after, due, starts

READ_MODELS = 50
AT_ONCE = 200
"""Appends that are sent at one moment, and share commits."""
STRANGER = "12358"
"""The customer on whose orders one read model fails."""


@dataclass(frozen=True)
class Shipment:
    order_id: Annotated[str, Key()]
    country: Annotated[str, Index()]
    is_shipped: bool = False


class Shipments(Projection[Shipment]):
    @on(OrderCreated)
    def created(self, row: Shipment | None, event: OrderCreated) -> Shipment:
        return Shipment(event.order_id, event.shipping_address.country)

    @on(OrderShipped)
    def shipped(self, row: Shipment, event: OrderShipped) -> Shipment:
        return replace(row, is_shipped=True)


class KnownShipments(Shipments):
    name = "known_shipments"

    @on(OrderCreated)
    def created(self, row: Shipment | None, event: OrderCreated) -> Shipment:
        if event.customer_id == STRANGER:
            raise LookupError(f"there is no address of customer {event.customer_id}")
        return Shipment(event.order_id, event.shipping_address.country)


@dataclass(frozen=True)
class Country:
    country: Annotated[str, Key()]
    orders: Annotated[int, Index()]


class Countries(Projection[Country]):
    def key(self, event: OrderCreated) -> str:
        return event.shipping_address.country

    @on(OrderCreated)
    def created(self, row: Country | None, event: OrderCreated) -> Country:
        return Country(event.shipping_address.country, row.orders + 1 if row else 1)


@dataclass(frozen=True, kw_only=True)
class AskWhy(Command[None]):
    order_id: str


class Enquiry(Process[str]):
    """Waits two weeks after an order is cancelled; is stuck where it asks at once, and nothing takes the refusal."""

    name, initial = "enquiry", ""

    @starts(OrderCancelled, key="order_id")
    def cancelled(self, state: str, event: OrderCancelled) -> Iterator[object]:
        yield after(timedelta(weeks=2), "reminder")
        if event.order_id.endswith("177"):
            yield AskWhy(order_id=event.order_id)

    @due("reminder")
    def overdue(self, state: str) -> Iterator[object]:
        return iter(())

    def is_completed(self, state: str) -> bool:
        return False


async def refuse(command: AskWhy) -> None:
    raise ValueError(f"no clerk asks about {command.order_id}")


def build_large(url: str, *, synchronize: bool = True) -> Application:
    """Return the application, not yet started."""
    options = Options(synchronizer=SynchronizerOptions(retries=0, backoff=Backoff(first=0.01, last=60)))
    app = build(url, synchronize=synchronize, options=options)
    app.projections.add(KnownShipments())
    for number in range(READ_MODELS - 3):
        kind: type[Projection[Any]] = Countries if number % 10 else Shipments
        name = f"{kind.__name__.lower()}_{number}"
        app.projections.add(type(name.title(), (kind,), {"name": name})())
    app.commands.register(AskWhy, refuse)
    app.processes.add(Enquiry())
    return app


async def fill(app: Application, file: Path, events: int) -> None:
    """Append each item of the file's invoices as an event, over and over, until there are that many."""
    invoices = [each for each in read_retail_file(file).invoices if not each.is_credit_note]
    head, round_ = 0, 0
    while head < events:
        round_ += 1
        for first in range(0, len(invoices), AT_ONCE):
            if head >= events:
                break
            appends = (_append(app, f"{round_}-{each.number}", each) for each in invoices[first : first + AT_ONCE])
            head = max(await asyncio.gather(*appends))


async def _append(app: Application, order_id: str, invoice: Invoice) -> int:
    line, *others = invoice.lines
    at = min(each.at for each in invoice.lines).replace(tzinfo=UTC)
    address = Address(street="", city="", postal_code="", country=line.country)
    events: list[object] = [
        OrderCreated(
            order_id=order_id, customer_id=line.customer_id, items=(line.sold,), shipping_address=address, created_at=at
        ),
        *(OrderItemAdded(order_id=order_id, item=each.sold, added_at=at) for each in others),
    ]
    if order_id.endswith("77"):
        events.append(OrderCancelled(order_id=order_id, reason="changed my mind", cancelled_at=at))
    else:
        events.append(OrderShipped(order_id=order_id, shipped_at=at))
    stream_id = f"Order-{order_id}"
    receipt = await app.store.append_events(stream_id, "Order", events, expected_version=NO_STREAM)
    return receipt.position
