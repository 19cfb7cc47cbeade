"""From the order to the parcel: a process that waits for the payment, reserves the goods, and ships or cancels.

It is no part of the application unless `add_fulfilment` adds it; without it, orders are shipped by hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from functools import reduce
from operator import or_
from typing import Annotated

from orders.commands import CancelOrder, ShipOrder
from orders.errors import OrderError
from orders.events import OrderCancelled, OrderCreated, OrderId, OrderItemAdded, OrderItemRemoved, OrderShipped
from orders.items import OrderItem, total_of
from twofold import Application, Command, DecisionModel, Event, EventQuery, EventStore, Tag
from twofold.processes import Process, Refusal, after, cancel, due, evolve, on, refused, starts

PATIENCE = timedelta(days=3)
"""How long an order waits for its payment."""


@dataclass(frozen=True, kw_only=True)
class PaymentReceived(Event):
    """The customer paid."""

    order_id: OrderId


@dataclass(frozen=True, kw_only=True)
class PaymentRefunded(Event):
    """The customer got the money back."""

    order_id: OrderId
    amount: Decimal


@dataclass(frozen=True, kw_only=True)
class StockDelivered(Event):
    """Goods came into the warehouse."""

    product_id: Annotated[str, Tag("product")]
    quantity: int


@dataclass(frozen=True, kw_only=True)
class StockReserved(Event):
    """Goods in the warehouse belong to an order."""

    order_id: OrderId
    product_ids: Annotated[tuple[str, ...], Tag("product")]
    quantities: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ReserveStock(Command[None]):
    """Put the goods of an order aside."""

    order_id: str
    items: tuple[OrderItem, ...]


@dataclass(frozen=True, kw_only=True)
class RefundPayment(Command[None]):
    """Give the money back."""

    order_id: str
    amount: Decimal


class OutOfStockError(OrderError):
    """The warehouse has fewer pieces than an order needs."""

    def __init__(self, product_id: str) -> None:
        super().__init__(f"too few pieces of {product_id} are in stock")


@dataclass(frozen=True)
class Fulfilment:
    """What the process knows of an order."""

    order_id: str = ""
    items: tuple[OrderItem, ...] = ()
    has_ended: bool = False


class FulfilOrder(Process[Fulfilment]):
    """Waits for the payment, reserves the goods, and ships; cancels what is not paid or not in stock."""

    name, initial = "fulfil_order", Fulfilment()

    @starts(OrderCreated, key="order_id")
    def created(self, state: Fulfilment, event: OrderCreated) -> Iterator[object]:
        """Wait for the payment."""
        yield after(PATIENCE, "payment")

    @on(PaymentReceived, key="order_id")
    def paid(self, state: Fulfilment, event: PaymentReceived) -> Iterator[object]:
        """Put the goods aside."""
        yield cancel("payment")
        yield ReserveStock(order_id=state.order_id, items=state.items)

    @on(StockReserved, key="order_id")
    def reserved(self, state: Fulfilment, event: StockReserved) -> Iterator[object]:
        """Send the goods."""
        yield ShipOrder(order_id=state.order_id)

    @refused(ReserveStock)
    def out_of_stock(self, state: Fulfilment, refusal: Refusal[ReserveStock]) -> Iterator[object]:
        """Give the money back, and the order up."""
        yield RefundPayment(order_id=state.order_id, amount=total_of(state.items))
        yield CancelOrder(order_id=state.order_id, reason=refusal.reason)

    @due("payment")
    def overdue(self, state: Fulfilment) -> Iterator[object]:
        """Give the order up."""
        yield CancelOrder(order_id=state.order_id, reason="not paid")

    @refused(ShipOrder, CancelOrder)
    def was_quicker(self, state: Fulfilment, refusal: Refusal[Command]) -> tuple[()]:
        """Do nothing: the order was shipped or cancelled by hand, which ends the process."""
        return ()

    @on(OrderItemAdded, OrderItemRemoved, OrderShipped, OrderCancelled, key="order_id", missing="ignore")
    def changed(self, state: Fulfilment, event: object) -> tuple[()]:
        """Only remember it."""
        return ()

    @evolve(OrderCreated)
    def was_created(self, state: Fulfilment, event: OrderCreated) -> Fulfilment:
        """Remember what was ordered."""
        return Fulfilment(event.order_id, event.items)

    @evolve(OrderItemAdded)
    def was_added(self, state: Fulfilment, event: OrderItemAdded) -> Fulfilment:
        """Remember a further item."""
        return replace(state, items=(*state.items, event.item))

    @evolve(OrderItemRemoved)
    def was_removed(self, state: Fulfilment, event: OrderItemRemoved) -> Fulfilment:
        """Forget what was removed."""
        return replace(state, items=tuple(each for each in state.items if each.product_id != event.product_id))

    @evolve(OrderShipped, OrderCancelled)
    def ended(self, state: Fulfilment, event: object) -> Fulfilment:
        """Remember that the order is at its end."""
        return replace(state, has_ended=True)

    def is_completed(self, state: Fulfilment) -> bool:
        """Return whether the order was shipped or cancelled."""
        return state.has_ended


@dataclass(frozen=True)
class Warehouse:
    """Handles what the process asks of stock and money; the bank is left out."""

    store: EventStore

    async def reserve(self, command: ReserveStock) -> None:
        """Put goods aside, if there are enough: two orders never get the same pieces.

        Raises:
            OutOfStockError: there are not.
        """
        wanted: Counter[str] = Counter()
        for item in command.items:
            wanted[item.product_id] += item.quantity
        in_stock = dict((await self.store.decide(_stock_of(tuple(wanted)))).state)
        for product_id, quantity in wanted.items():
            if in_stock.get(product_id, 0) < quantity:
                raise OutOfStockError(product_id)
        reserved = StockReserved(
            order_id=command.order_id, product_ids=tuple(wanted), quantities=tuple(wanted.values())
        )
        await self.store.append([reserved])

    async def refund(self, command: RefundPayment) -> None:
        """Give money back."""
        await self.store.append([PaymentRefunded(order_id=command.order_id, amount=command.amount)])


def add_fulfilment(app: Application) -> None:
    """Let the application see orders through to their end."""
    warehouse = Warehouse(app.store)
    app.commands.register(ReserveStock, warehouse.reserve)
    app.commands.register(RefundPayment, warehouse.refund)
    app.processes.add(FulfilOrder())


def _stock_of(product_ids: tuple[str, ...]) -> DecisionModel[tuple[tuple[str, int], ...]]:
    def evolve(
        stock: tuple[tuple[str, int], ...], event: StockDelivered | StockReserved
    ) -> tuple[tuple[str, int], ...]:
        pieces = Counter(dict(stock))
        if isinstance(event, StockDelivered):
            pieces[event.product_id] += event.quantity
        else:
            pieces.subtract(dict(zip(event.product_ids, event.quantities, strict=True)))
        return tuple(pieces.items())

    tags = (f"product:{product_id}" for product_id in product_ids)
    query = reduce(or_, (EventQuery.of(StockDelivered, StockReserved, tags=[tag]) for tag in tags))
    return DecisionModel(query=query, initial_state=(), evolve=evolve)
