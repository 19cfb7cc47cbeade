"""What an order is made of: values without an identity of their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

CENT = Decimal("0.01")
MAX_ITEMS = 2000
"""Items of one order. An order is loaded and shown as a whole, so that its size bounds what each request costs."""


@dataclass(frozen=True)
class OrderItem:
    """A quantity of one product, at one price each."""

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


Line = tuple[str, Decimal]
"""What tells the items of an order apart: one product may stand there at several prices."""


def line_of(item: OrderItem) -> Line:
    """Return the line of an order that an item stands in."""
    return item.product_id, item.price


def add_item(lines: dict[Line, OrderItem], new: OrderItem) -> None:
    """Add an item to the lines of an order. The same product at the same price adds to the quantity that is there."""
    there = lines.get(line_of(new))
    lines[line_of(new)] = replace(there, quantity=there.quantity + new.quantity) if there else new


def merged(items: Iterable[OrderItem]) -> tuple[OrderItem, ...]:
    """Return items as an order holds them: one for each line."""
    lines: dict[Line, OrderItem] = {}
    for item in items:
        add_item(lines, item)
    return tuple(lines.values())


def without_product(items: Iterable[OrderItem], product_id: str) -> tuple[OrderItem, ...]:
    """Return the items but those of a product, at whatever price."""
    return tuple(item for item in items if item.product_id != product_id)
