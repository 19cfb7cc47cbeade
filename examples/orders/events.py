"""What happens to orders. Each event says by itself when it happened, so that a replay of old data keeps its dates."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

from orders.items import Address, OrderItem
from twofold import AwareDatetime, Event, Tag

OrderId = Annotated[str, Tag("order")]


@dataclass(frozen=True, kw_only=True)
class OrderCreated(Event):
    """A customer ordered something."""

    order_id: OrderId
    customer_id: Annotated[str, Tag("customer")]
    items: tuple[OrderItem, ...]
    shipping_address: Address
    created_at: AwareDatetime


@dataclass(frozen=True, kw_only=True)
class OrderItemAdded(Event):
    """A further item was ordered."""

    order_id: OrderId
    item: OrderItem
    added_at: AwareDatetime


@dataclass(frozen=True, kw_only=True)
class OrderItemRemoved(Event):
    """A product was taken off the order, with all the items of it."""

    order_id: OrderId
    product_id: str
    removed: tuple[OrderItem, ...]
    removed_at: AwareDatetime


@dataclass(frozen=True, kw_only=True)
class OrderPaid(Event):
    """The customer paid what the order costs."""

    order_id: OrderId
    payment_id: str
    amount: Decimal
    paid_at: AwareDatetime


@dataclass(frozen=True, kw_only=True)
class RefundOwed(Event):
    """Money is to go back to the customer: the order has no use for a payment, or has none any more."""

    order_id: OrderId
    payment_id: str
    amount: Decimal
    reason: str
    owed_at: AwareDatetime


@dataclass(frozen=True, kw_only=True)
class PaymentRefunded(Event):
    """The customer has the money back."""

    order_id: OrderId
    payment_id: str
    amount: Decimal
    refunded_at: AwareDatetime


@dataclass(frozen=True, kw_only=True)
class PaymentReminded(Event):
    """The customer was reminded to pay."""

    order_id: OrderId
    reminded_at: AwareDatetime


@dataclass(frozen=True, kw_only=True)
class OrderShipped(Event):
    """The goods left."""

    order_id: OrderId
    shipped_at: AwareDatetime


@dataclass(frozen=True, kw_only=True)
class OrderCancelled(Event):
    """The order will not be shipped."""

    order_id: OrderId
    reason: str
    cancelled_at: AwareDatetime


@dataclass(frozen=True, kw_only=True)
class OrderItemReturned(Event):
    """Shipped goods came back, and their price was refunded. The order stays what it was: shipped."""

    order_id: OrderId
    item: OrderItem
    returned_at: AwareDatetime
