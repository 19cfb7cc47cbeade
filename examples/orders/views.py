"""The read models: what the questions about orders are answered from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import with_config

from orders.events import (
    OrderCancelled,
    OrderCreated,
    OrderItemAdded,
    OrderItemRemoved,
    OrderItemReturned,
    OrderPaid,
    OrderShipped,
    PaymentRefunded,
    PaymentReminded,
    RefundOwed,
)
from orders.items import Address, OrderItem, merged, total_of, without_product
from orders.order import OrderStatus
from twofold import FullText, Index, Key, Projection, RecordedEvent, on


@with_config(use_attribute_docstrings=True)
@dataclass(frozen=True, kw_only=True)
class ShownOrder:
    """What a client sees of an order. It is sent as it stands: pydantic need not make an object of its own of it."""

    order_id: Annotated[str, Key()]
    version: int
    """Number of changes it has seen."""
    customer_id: Annotated[str, Index(), FullText()]
    status: Annotated[OrderStatus, Index()]
    total_amount: Annotated[Decimal, Index()]
    item_count: int
    """Number of lines; two pieces of one product at one price are one line."""
    created_at: Annotated[datetime, Index()]
    shipped_at: datetime | None
    cancelled_at: datetime | None
    cancellation_reason: str | None
    returned_amount: Decimal
    paid_amount: Decimal
    """What the order was paid with."""
    owed_amount: Decimal
    """What is to go back to the customer."""
    refunded_amount: Decimal
    reminded_at: datetime | None
    items: tuple[OrderItem, ...]
    shipping_address: Address


@dataclass(frozen=True, kw_only=True)
class OrderView(ShownOrder):
    """What queries show of an order, and the texts in which they search."""

    items_text: Annotated[str, FullText()]
    address_text: Annotated[str, FullText()]


class OrderViews(Projection[OrderView]):
    """Keeps a row for each order."""

    name = "order_views"
    version = 4
    max_lag = timedelta(seconds=2)

    def apply(self, row: OrderView | None, recorded: RecordedEvent[Any]) -> OrderView | None:
        """Note the version with whatever else the event changes."""
        changed = super().apply(row, recorded)
        return changed and replace(changed, version=recorded.version)

    @on(OrderCreated)
    def created(self, event: OrderCreated) -> OrderView:
        """Begin the row."""
        address = event.shipping_address
        nothing = Decimal("0.00")
        empty = OrderView(
            order_id=event.order_id,
            version=0,
            customer_id=event.customer_id,
            status=OrderStatus.OPEN,
            total_amount=nothing,
            item_count=0,
            created_at=event.created_at,
            shipped_at=None,
            cancelled_at=None,
            cancellation_reason=None,
            returned_amount=nothing,
            paid_amount=nothing,
            owed_amount=nothing,
            refunded_amount=nothing,
            reminded_at=None,
            items=(),
            shipping_address=address,
            items_text="",
            address_text=f"{address.street} {address.postal_code} {address.city} {address.country}",
        )
        return _with_items(empty, merged(event.items))

    @on(OrderItemAdded)
    def item_added(self, row: OrderView, event: OrderItemAdded) -> OrderView:
        """Count and add up again."""
        return _with_items(row, merged((*row.items, event.item)))

    @on(OrderItemRemoved)
    def item_removed(self, row: OrderView, event: OrderItemRemoved) -> OrderView:
        """Count and add up again."""
        return _with_items(row, without_product(row.items, event.product_id))

    @on(OrderPaid)
    def paid(self, row: OrderView, event: OrderPaid) -> OrderView:
        """Note what was paid."""
        return replace(row, status=OrderStatus.PAID, paid_amount=event.amount)

    @on(RefundOwed)
    def refund_owed(self, row: OrderView, event: RefundOwed) -> OrderView:
        """Add up what is owed."""
        return replace(row, owed_amount=row.owed_amount + event.amount)

    @on(PaymentRefunded)
    def refunded(self, row: OrderView, event: PaymentRefunded) -> OrderView:
        """Count it as refunded and not as owed."""
        return replace(
            row, owed_amount=row.owed_amount - event.amount, refunded_amount=row.refunded_amount + event.amount
        )

    @on(PaymentReminded)
    def reminded(self, row: OrderView, event: PaymentReminded) -> OrderView:
        """Note when."""
        return replace(row, reminded_at=event.reminded_at)

    @on(OrderShipped)
    def shipped(self, row: OrderView, event: OrderShipped) -> OrderView:
        """Note when the goods left."""
        return replace(row, status=OrderStatus.SHIPPED, shipped_at=event.shipped_at)

    @on(OrderCancelled)
    def cancelled(self, row: OrderView, event: OrderCancelled) -> OrderView:
        """Note why."""
        return replace(
            row, status=OrderStatus.CANCELLED, cancelled_at=event.cancelled_at, cancellation_reason=event.reason
        )

    @on(OrderItemReturned)
    def item_returned(self, row: OrderView, event: OrderItemReturned) -> OrderView:
        """Add up what was refunded."""
        return replace(row, returned_amount=row.returned_amount + event.item.amount)


def _with_items(row: OrderView, items: tuple[OrderItem, ...]) -> OrderView:
    text = " ".join(f"{item.product_id} {item.description}".rstrip() for item in items)
    return replace(row, items=items, item_count=len(items), total_amount=total_of(items), items_text=text)


@dataclass(frozen=True, kw_only=True)
class Sale:
    """What an order brought in. An order that was cancelled brought nothing and has no row."""

    order_id: Annotated[str, Key()]
    month: Annotated[str, Index()]
    """Of the order, such as "2011-12"; a return counts in the month of its order."""
    country: str
    items_sold: int
    """Pieces of all products."""
    revenue: Decimal
    returned: Decimal = Decimal("0.00")
    """What of the revenue was refunded."""


class Sales(Projection[Sale]):
    """Keeps the figures of the sales report."""

    name = "sales"
    max_lag = timedelta(seconds=10)

    @on(OrderCreated)
    def created(self, event: OrderCreated) -> Sale:
        """Begin the row."""
        return Sale(
            order_id=event.order_id,
            month=event.created_at.astimezone(UTC).strftime("%Y-%m"),
            country=event.shipping_address.country,
            items_sold=sum(item.quantity for item in event.items),
            revenue=total_of(event.items),
        )

    @on(OrderItemAdded)
    def item_added(self, row: Sale, event: OrderItemAdded) -> Sale:
        """Count more."""
        item = event.item
        return replace(row, items_sold=row.items_sold + item.quantity, revenue=row.revenue + item.amount)

    @on(OrderItemRemoved)
    def item_removed(self, row: Sale, event: OrderItemRemoved) -> Sale:
        """Count less."""
        pieces = sum(item.quantity for item in event.removed)
        return replace(row, items_sold=row.items_sold - pieces, revenue=row.revenue - total_of(event.removed))

    @on(OrderCancelled)
    def cancelled(self, row: Sale, event: OrderCancelled) -> None:
        """Drop the row: nothing was sold."""

    @on(OrderItemReturned)
    def item_returned(self, row: Sale, event: OrderItemReturned) -> Sale:
        """Add up what was refunded."""
        return replace(row, returned=row.returned + event.item.amount)
