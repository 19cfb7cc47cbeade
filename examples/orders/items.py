"""What an order is made of: values without an identity of their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

CENT = Decimal("0.01")


@dataclass(frozen=True)
class OrderItem:
    """So many pieces of a product at one price each."""

    product_id: str
    quantity: int
    price: Decimal
    description: str = ""

    @property
    def amount(self) -> Decimal:
        """What all the pieces cost."""
        return self.quantity * self.price


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where an order is sent."""

    street: str
    city: str
    postal_code: str
    country: str


def money(amount: Decimal) -> Decimal:
    """Return an amount with at least two decimal places, so that 5 and 5.0 are both written as 5.00."""
    exponent = amount.as_tuple().exponent
    return amount.quantize(CENT) if isinstance(exponent, int) and exponent > -2 else amount


def total_of(items: Iterable[OrderItem]) -> Decimal:
    """Return what the items cost together."""
    return sum((item.amount for item in items), Decimal("0.00"))


def with_item(items: tuple[OrderItem, ...], new: OrderItem) -> tuple[OrderItem, ...]:
    """Return the items and one more. The same product at the same price adds to the quantity that is there."""
    for place, item in enumerate(items):
        if (item.product_id, item.price) == (new.product_id, new.price):
            more = replace(item, quantity=item.quantity + new.quantity)
            return (*items[:place], more, *items[place + 1 :])
    return (*items, new)


def without_product(items: tuple[OrderItem, ...], product_id: str) -> tuple[OrderItem, ...]:
    """Return the items but those of a product, at whatever price."""
    return tuple(item for item in items if item.product_id != product_id)
