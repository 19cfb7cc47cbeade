"""The order: an aggregate that guards the rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Self

from orders.errors import (
    ItemNotInOrderError,
    LastItemError,
    NoCustomerError,
    NoItemsError,
    NoReasonError,
    NothingToReturnError,
    OrderIsCancelledError,
    OrderIsShippedError,
    PriceNotPositiveError,
    QuantityNotPositiveError,
)
from orders.events import (
    OrderCancelled,
    OrderCreated,
    OrderItemAdded,
    OrderItemRemoved,
    OrderItemReturned,
    OrderShipped,
)
from orders.items import Address, OrderItem, money, with_item, without_product
from twofold import Aggregate, on


class OrderStatus(StrEnum):
    """Where an order is in its life."""

    OPEN = "open"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"


class Order(Aggregate):
    """What a customer ordered. It always has an item; shipped or cancelled, it changes no more."""

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.status = OrderStatus.OPEN
        self.items: tuple[OrderItem, ...] = ()
        self._returned: Counter[tuple[str, Decimal]] = Counter()

    @classmethod
    def create(
        cls, id: str, *, customer_id: str, items: Sequence[OrderItem], shipping_address: Address, at: datetime
    ) -> Self:
        """Open an order.

        Raises:
            NoCustomerError, NoItemsError, QuantityNotPositiveError, PriceNotPositiveError: it breaks that rule.
        """
        if not customer_id:
            raise NoCustomerError
        if not items:
            raise NoItemsError
        checked = tuple(checked_item(item, place) for place, item in enumerate(items))
        order = cls(id)
        order.record(
            OrderCreated(
                order_id=id,
                customer_id=customer_id,
                items=checked,
                shipping_address=shipping_address,
                created_at=at,
            )
        )
        return order

    def add_item(self, item: OrderItem, at: datetime) -> None:
        """Order a further item.

        Raises:
            OrderIsShippedError, OrderIsCancelledError, QuantityNotPositiveError, PriceNotPositiveError: see there.
        """
        self._require_open()
        self.record(OrderItemAdded(order_id=self.id, item=checked_item(item), added_at=at))

    def remove_item(self, product_id: str, at: datetime) -> None:
        """Take a product off the order.

        Raises:
            OrderIsShippedError, OrderIsCancelledError, ItemNotInOrderError, LastItemError: see there.
        """
        self._require_open()
        removed = tuple(item for item in self.items if item.product_id == product_id)
        if not removed:
            raise ItemNotInOrderError(self.id, product_id)
        if len(removed) == len(self.items):
            raise LastItemError(self.id)
        self.record(OrderItemRemoved(order_id=self.id, product_id=product_id, removed=removed, removed_at=at))

    def ship(self, at: datetime) -> None:
        """Send the goods.

        Raises:
            OrderIsShippedError, OrderIsCancelledError: see there.
        """
        self._require_open()
        self.record(OrderShipped(order_id=self.id, shipped_at=at))

    def cancel(self, reason: str, at: datetime) -> None:
        """Give the order up.

        Raises:
            OrderIsShippedError, OrderIsCancelledError, NoReasonError: see there.
        """
        self._require_open()
        if not reason:
            raise NoReasonError
        self.record(OrderCancelled(order_id=self.id, reason=reason, cancelled_at=at))

    def can_take_back(self, item: OrderItem) -> bool:
        """Return whether so many pieces, at that price, were shipped and have not come back."""
        bought = sum(each.quantity for each in self.items if _line(each) == _line(item))
        return self.status is OrderStatus.SHIPPED and item.quantity <= bought - self._returned[_line(item)]

    def take_back(self, item: OrderItem, at: datetime) -> None:
        """Accept goods that come back, and refund what they cost.

        Raises:
            QuantityNotPositiveError, PriceNotPositiveError, NothingToReturnError: see there.
        """
        checked = checked_item(item)
        if not self.can_take_back(checked):
            raise NothingToReturnError(item)
        self.record(OrderItemReturned(order_id=self.id, item=checked, returned_at=at))

    def _require_open(self) -> None:
        if self.status is OrderStatus.SHIPPED:
            raise OrderIsShippedError(self.id)
        if self.status is OrderStatus.CANCELLED:
            raise OrderIsCancelledError(self.id)

    @on(OrderCreated)
    def _created(self, event: OrderCreated) -> None:
        for item in event.items:
            self.items = with_item(self.items, item)

    @on(OrderItemAdded)
    def _item_added(self, event: OrderItemAdded) -> None:
        self.items = with_item(self.items, event.item)

    @on(OrderItemRemoved)
    def _item_removed(self, event: OrderItemRemoved) -> None:
        self.items = without_product(self.items, event.product_id)

    @on(OrderShipped)
    def _shipped(self, event: OrderShipped) -> None:
        self.status = OrderStatus.SHIPPED

    @on(OrderCancelled)
    def _cancelled(self, event: OrderCancelled) -> None:
        self.status = OrderStatus.CANCELLED

    @on(OrderItemReturned)
    def _item_returned(self, event: OrderItemReturned) -> None:
        self._returned[_line(event.item)] += event.item.quantity


def checked_item(item: OrderItem, place: int | None = None) -> OrderItem:
    """Return an item that fulfils the rules, its price written as money.

    Raises:
        QuantityNotPositiveError, PriceNotPositiveError: it does not.
    """
    if item.quantity <= 0:
        raise QuantityNotPositiveError(item, place)
    if not item.price.is_finite() or item.price <= 0:
        raise PriceNotPositiveError(item, place)
    return replace(item, price=money(item.price))


def _line(item: OrderItem) -> tuple[str, Decimal]:
    """Return what tells the lines of an order apart: one product may stand there at several prices."""
    return item.product_id, item.price
