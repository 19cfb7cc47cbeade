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
    AmountNotPositiveError,
    ItemNotInOrderError,
    LastItemError,
    NoCustomerError,
    NoItemsError,
    NoReasonError,
    NothingToReturnError,
    OrderIsCancelledError,
    OrderIsPaidError,
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
    OrderPaid,
    OrderShipped,
    PaymentRefunded,
    PaymentReminded,
    RefundOwed,
)
from orders.items import MAX_ITEMS, Address, Line, OrderItem, add_item, line_of, money, total_of
from twofold import Aggregate, on


class OrderStatus(StrEnum):
    """Where an order is in its life."""

    OPEN = "open"
    PAID = "paid"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"


class Order(Aggregate):
    """What a customer ordered. It always has an item; paid, it keeps them; shipped or cancelled, it is at its end."""

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.status = OrderStatus.OPEN
        self._lines: dict[Line, OrderItem] = {}
        self._returned: Counter[Line] = Counter()
        self._payments: set[str] = set()
        self._paid: OrderPaid | None = None
        self._owed: dict[str, RefundOwed] = {}

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
            OrderIsPaidError, OrderIsShippedError, OrderIsCancelledError, TooManyItemsError, QuantityNotPositiveError,
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
            OrderIsPaidError, OrderIsShippedError, OrderIsCancelledError, ItemNotInOrderError, LastItemError: see there.
        """
        self._require_open()
        removed = tuple(item for item in self.items if item.product_id == product_id)
        if not removed:
            raise ItemNotInOrderError(self.id, product_id)
        if len(removed) == len(self.items):
            raise LastItemError(self.id)
        self.record(OrderItemRemoved(order_id=self.id, product_id=product_id, removed=removed, removed_at=at))

    def take_payment(self, payment_id: str, amount: Decimal, at: datetime) -> None:
        """Take a payment, once however often it is told. What the order has no use for, it owes back.

        Raises:
            AmountNotPositiveError: see there.
        """
        if not amount.is_finite() or amount <= 0:
            raise AmountNotPositiveError(amount)
        if payment_id in self._payments:
            return
        amount = money(amount)
        if reason := self._why_not_paid_by(amount):
            self._owe(payment_id, amount, reason, at)
        else:
            self.record(OrderPaid(order_id=self.id, payment_id=payment_id, amount=amount, paid_at=at))

    def note_refund(self, payment_id: str, at: datetime) -> None:
        """Note that a payment that was owed back is with the customer; once, however often it is told."""
        if owed := self._owed.get(payment_id):
            self.record(PaymentRefunded(order_id=self.id, payment_id=payment_id, amount=owed.amount, refunded_at=at))

    def remind(self, at: datetime) -> None:
        """Remind the customer to pay, if that is still to be done."""
        if self.status is OrderStatus.OPEN:
            self.record(PaymentReminded(order_id=self.id, reminded_at=at))

    def ship(self, at: datetime) -> None:
        """Send the goods.

        Raises:
            OrderIsShippedError, OrderIsCancelledError: see there.
        """
        self._require_unfinished()
        self.record(OrderShipped(order_id=self.id, shipped_at=at))

    def cancel(self, reason: str, at: datetime) -> None:
        """Give the order up. What was paid for it is owed back.

        Raises:
            OrderIsShippedError, OrderIsCancelledError, NoReasonError: see there.
        """
        self._require_unfinished()
        if not reason:
            raise NoReasonError
        paid = self._paid
        self.record(OrderCancelled(order_id=self.id, reason=reason, cancelled_at=at))
        if paid:
            self._owe(paid.payment_id, paid.amount, reason, at)

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

    def _why_not_paid_by(self, amount: Decimal) -> str:
        """Return why the order has no use for a payment; empty if it has."""
        if self.status is not OrderStatus.OPEN:
            return f"the order is {self.status} already"
        total = total_of(self.items)
        return "" if amount == total else f"the order costs {total}"

    def _owe(self, payment_id: str, amount: Decimal, reason: str, at: datetime) -> None:
        self.record(RefundOwed(order_id=self.id, payment_id=payment_id, amount=amount, reason=reason, owed_at=at))

    def _require_open(self) -> None:
        self._require_unfinished()
        if self.status is OrderStatus.PAID:
            raise OrderIsPaidError(self.id)

    def _require_unfinished(self) -> None:
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

    @on(OrderPaid)
    def _was_paid(self, event: OrderPaid) -> None:
        self.status = OrderStatus.PAID
        self._paid = event
        self._payments.add(event.payment_id)

    @on(RefundOwed)
    def _refund_owed(self, event: RefundOwed) -> None:
        self._owed[event.payment_id] = event
        self._payments.add(event.payment_id)

    @on(PaymentRefunded)
    def _refunded(self, event: PaymentRefunded) -> None:
        del self._owed[event.payment_id]

    @on(PaymentReminded)
    def _reminded(self, event: PaymentReminded) -> None:
        """Change nothing."""

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
