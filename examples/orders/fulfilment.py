"""From the order to the parcel: a process that waits for the payment, reserves the goods, and ships.

Whatever goes wrong, it cancels the order, and releases what it had reserved. An order that is cancelled owes back what
was paid for it; so does one that is paid too late, twice or wrongly: that is the rule of `Order`. That the money
arrives is the business of another process, in `refunds`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum

from orders.commands import CancelOrder
from orders.events import (
    OrderCancelled,
    OrderCreated,
    OrderItemAdded,
    OrderItemRemoved,
    OrderPaid,
    OrderShipped,
)
from orders.items import Address, OrderItem
from orders.order import Order, OrderStatus
from orders.partners import Carrier, Partners, UndeliverableError
from orders.refunds import PAUSE, RefundPayment, Refunds, ReturnPayment
from orders.stock import ReleaseStock, ReserveStock, add_stock
from twofold import Application, Command, Repository
from twofold.processes import (
    Done,
    Process,
    Refusal,
    ScheduledCommands,
    after,
    cancel,
    done,
    due,
    evolve,
    on,
    refused,
    starts,
)

PATIENCE = timedelta(days=3)
"""How long an order waits for its payment."""


@dataclass(frozen=True, kw_only=True)
class SendParcel(Command[None]):
    """Hand the goods to the carrier."""

    order_id: str
    address: Address


class Stock(StrEnum):
    """What the warehouse has done for an order."""

    NOTHING = "nothing"
    ASKED = "asked"
    RESERVED = "reserved"


@dataclass(frozen=True)
class Fulfilment:
    """What the process knows of an order."""

    order_id: str = ""
    items: tuple[OrderItem, ...] = ()
    address: Address | None = None
    status: OrderStatus = OrderStatus.OPEN
    stock: Stock = Stock.NOTHING


class FulfilOrder(Process[Fulfilment]):
    """Waits for the payment, reserves the goods, and ships; cancels what is not paid, not in stock, or out of reach."""

    name, initial = "fulfil_order", Fulfilment()

    def __init__(self, patience: timedelta = PATIENCE) -> None:
        self._patience = patience

    @starts(OrderCreated, key="order_id")
    def created(self, state: Fulfilment, event: OrderCreated) -> Iterator[object]:
        """Wait for the payment."""
        yield after(self._patience, "payment")

    @due("payment")
    def overdue(self, state: Fulfilment) -> Iterator[object]:
        """Give the order up."""
        yield CancelOrder(order_id=state.order_id, reason="not paid")

    @on(OrderPaid, key="order_id")
    def paid(self, state: Fulfilment, event: OrderPaid) -> Iterator[object]:
        """Put the goods aside."""
        yield cancel("payment")
        yield ReserveStock(order_id=state.order_id, items=state.items)

    @done(ReserveStock)
    def reserved(self, state: Fulfilment, outcome: Done[ReserveStock]) -> Iterator[object]:
        """Send the goods, unless the order was given up in the meantime."""
        if state.status is OrderStatus.CANCELLED:
            yield ReleaseStock(order_id=state.order_id)
        elif state.address:
            yield SendParcel(order_id=state.order_id, address=state.address)

    @refused(ReserveStock, SendParcel)
    def impossible(self, state: Fulfilment, refusal: Refusal[Command]) -> Iterator[object]:
        """Give the order up, which owes the money back by that."""
        yield CancelOrder(order_id=state.order_id, reason=refusal.reason)

    @on(OrderCancelled, key="order_id", missing="ignore")
    def cancelled(self, state: Fulfilment, event: OrderCancelled) -> Iterator[object]:
        """Release the goods, also if the customer has cancelled."""
        yield cancel("payment")
        if state.stock is Stock.RESERVED:
            yield ReleaseStock(order_id=state.order_id)

    @refused(CancelOrder)
    def was_quicker(self, state: Fulfilment, refusal: Refusal[CancelOrder]) -> tuple[()]:
        """Do nothing: the order was shipped or cancelled by hand."""
        return ()

    @on(OrderItemAdded, OrderItemRemoved, OrderShipped, key="order_id", missing="ignore")
    def changed(self, state: Fulfilment, event: object) -> tuple[()]:
        """Only remember it."""
        return ()

    @evolve(OrderCreated)
    def was_created(self, state: Fulfilment, event: OrderCreated) -> Fulfilment:
        """Remember what was ordered."""
        return Fulfilment(event.order_id, event.items, event.shipping_address)

    @evolve(OrderItemAdded)
    def was_added(self, state: Fulfilment, event: OrderItemAdded) -> Fulfilment:
        """Remember a further item."""
        return replace(state, items=(*state.items, event.item))

    @evolve(OrderItemRemoved)
    def was_removed(self, state: Fulfilment, event: OrderItemRemoved) -> Fulfilment:
        """Forget what was removed."""
        return replace(state, items=tuple(each for each in state.items if each.product_id != event.product_id))

    @evolve(OrderPaid)
    def was_paid(self, state: Fulfilment, event: OrderPaid) -> Fulfilment:
        """Remember that the warehouse is asked."""
        return replace(state, status=OrderStatus.PAID, stock=Stock.ASKED)

    @evolve(done(ReserveStock))
    def was_reserved(self, state: Fulfilment, outcome: Done[ReserveStock]) -> Fulfilment:
        """Remember that goods are put aside."""
        return replace(state, stock=Stock.RESERVED)

    @evolve(refused(ReserveStock))
    def was_not_reserved(self, state: Fulfilment, refusal: Refusal[ReserveStock]) -> Fulfilment:
        """Remember that none are."""
        return replace(state, stock=Stock.NOTHING)

    @evolve(done(ReleaseStock))
    def was_released(self, state: Fulfilment, outcome: Done[ReleaseStock]) -> Fulfilment:
        """Remember that none are any more."""
        return replace(state, stock=Stock.NOTHING)

    @evolve(OrderShipped)
    def was_shipped(self, state: Fulfilment, event: OrderShipped) -> Fulfilment:
        """Remember that the goods left."""
        return replace(state, status=OrderStatus.SHIPPED)

    @evolve(OrderCancelled)
    def was_cancelled(self, state: Fulfilment, event: OrderCancelled) -> Fulfilment:
        """Remember that the order is given up."""
        return replace(state, status=OrderStatus.CANCELLED)

    def is_completed(self, state: Fulfilment) -> bool:
        """Return whether the goods left, or the order was given up and holds no goods."""
        given_up = state.status is OrderStatus.CANCELLED and state.stock is Stock.NOTHING
        return given_up or state.status is OrderStatus.SHIPPED


@dataclass(frozen=True)
class Shipping:
    """Handles what is asked of the carrier."""

    orders: Repository[Order]
    carrier: Carrier

    async def send(self, command: SendParcel) -> None:
        """Ship the order, if the carrier goes there.

        Raises:
            UndeliverableError: it does not.
            OrderError: the order was shipped or cancelled by hand.
        """
        if not await self.carrier.reaches(command.address):
            raise UndeliverableError(command.address)
        order = await self.orders.load(command.order_id)
        order.ship(command.timestamp)
        await self.orders.save(order)


@dataclass(frozen=True)
class Fulfilling:
    """Who sees orders through to their end, and how patiently."""

    partners: Partners = field(default_factory=Partners)
    patience: timedelta = PATIENCE
    """How long an order waits for its payment."""
    pause: timedelta = PAUSE
    """How long a refund waits that the bank refused."""


def add_fulfilment(app: Application, fulfilling: Fulfilling) -> None:
    """Let the application see orders through to their end; call this before it starts."""
    orders = app.repository(Order)
    add_stock(app)
    app.commands.register(SendParcel, Shipping(orders, fulfilling.partners.carrier).send)
    app.commands.register(RefundPayment, Refunds(orders, fulfilling.partners.bank).pay)
    app.processes.add(FulfilOrder(fulfilling.patience))
    app.processes.add(ReturnPayment(fulfilling.pause))
    app.processes.add(ScheduledCommands())
