"""The order: an aggregate that guards the rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
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
    TooManyItemsError,
)
from orders.events import (
    OrderCancelled,
    OrderCreated,
    OrderItemAdded,
    OrderItemRemoved,
    OrderItemReturned,
    OrderShipped,
)
from orders.items import MAX_ITEMS, Address, Line, OrderItem, add_item, line_of, money
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
        self._lines: dict[Line, OrderItem] = {}
        self._returned: Counter[Line] = Counter()

    @property
    def items(self) -> tuple[OrderItem, ...]:
        """What was ordered, the same product at one price as one item."""
        return tuple(self._lines.values())

    @classmethod
    def create(
        cls, id: str, *, customer_id: str, items: Sequence[OrderItem], shipping_address: Address, at: datetime
    ) -> Self:
        """Open an order.

        Raises:
            NoCustomerError, NoItemsError, TooManyItemsError, QuantityNotPositiveError, PriceNotPositiveError: it breaks
                that rule.
        """
        if not customer_id:
            raise NoCustomerError
        if not items:
            raise NoItemsError
        if len(items) > MAX_ITEMS:
            raise TooManyItemsError
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
            OrderIsShippedError, OrderIsCancelledError, TooManyItemsError, QuantityNotPositiveError,
                PriceNotPositiveError: see there.
        """
        self._require_open()
        checked = checked_item(item)
        if len(self._lines) >= MAX_ITEMS and line_of(checked) not in self._lines:
            raise TooManyItemsError
        self.record(OrderItemAdded(order_id=self.id, item=checked, added_at=at))

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
        """Return whether that quantity, at that price, was shipped and has not come back."""
        bought = self._lines.get(line_of(item))
        if bought is None or self.status is not OrderStatus.SHIPPED:
            return False
        return item.quantity <= bought.quantity - self._returned[line_of(item)]

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
            add_item(self._lines, item)

    @on(OrderItemAdded)
    def _item_added(self, event: OrderItemAdded) -> None:
        add_item(self._lines, event.item)

    @on(OrderItemRemoved)
    def _item_removed(self, event: OrderItemRemoved) -> None:
        self._lines = {line: item for line, item in self._lines.items() if item.product_id != event.product_id}

    @on(OrderShipped)
    def _shipped(self, event: OrderShipped) -> None:
        self.status = OrderStatus.SHIPPED

    @on(OrderCancelled)
    def _cancelled(self, event: OrderCancelled) -> None:
        self.status = OrderStatus.CANCELLED

    @on(OrderItemReturned)
    def _item_returned(self, event: OrderItemReturned) -> None:
        self._returned[line_of(event.item)] += event.item.quantity


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
