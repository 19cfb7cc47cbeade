"""Events of one order, with values that a test need not repeat."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from orders.events import (
    OrderCancelled,
    OrderCreated,
    OrderItemAdded,
    OrderItemRemoved,
    OrderItemReturned,
    OrderPaid,
    OrderShipped,
    PaymentRefunded,
    RefundOwed,
)
from orders.items import Address, OrderItem
from orders.order import Order

NOON = datetime(2011, 12, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
HOME = Address(street="1 Row", city="London", postal_code="W1", country="UK")
TEA = OrderItem("tea", 2, Decimal("12.90"), "Darjeeling")
CUP = OrderItem("cup", 1, Decimal("8.75"), "Stoneware cup")


def created(*items: OrderItem, order_id: str = "o1", customer_id: str = "ada", at: datetime = NOON) -> OrderCreated:
    """An order of Ada's; of tea, unless other items are given."""
    return OrderCreated(
        order_id=order_id, customer_id=customer_id, items=items or (TEA,), shipping_address=HOME, created_at=at
    )


def added(item: OrderItem) -> OrderItemAdded:
    """The item was added to it."""
    return OrderItemAdded(order_id="o1", item=item, added_at=LATER)


def removed(*items: OrderItem) -> OrderItemRemoved:
    """All items of their product were removed from it."""
    return OrderItemRemoved(order_id="o1", product_id=items[0].product_id, removed=items, removed_at=LATER)


def shipped(order_id: str = "o1") -> OrderShipped:
    """It was shipped."""
    return OrderShipped(order_id=order_id, shipped_at=LATER)


def cancelled() -> OrderCancelled:
    """It was cancelled."""
    return OrderCancelled(order_id="o1", reason="mistake", cancelled_at=LATER)


def paid(payment_id: str = "p1", amount: str = "25.80") -> OrderPaid:
    """It was paid."""
    return OrderPaid(order_id="o1", payment_id=payment_id, amount=Decimal(amount), paid_at=LATER)


def owed(reason: str, payment_id: str = "p1", amount: str = "25.80") -> RefundOwed:
    """A payment is to go back."""
    return RefundOwed(order_id="o1", payment_id=payment_id, amount=Decimal(amount), reason=reason, owed_at=LATER)


def refunded(payment_id: str = "p1", amount: str = "25.80") -> PaymentRefunded:
    """A payment went back."""
    return PaymentRefunded(order_id="o1", payment_id=payment_id, amount=Decimal(amount), refunded_at=LATER)


def returned(item: OrderItem, quantity: int) -> OrderItemReturned:
    """So many pieces of an item came back."""
    return OrderItemReturned(order_id="o1", item=replace(item, quantity=quantity), returned_at=LATER)


def given(*events: object) -> Order:
    """The order to which these things have happened."""
    return Order.from_history("o1", events)
