"""What all contenders take and give over HTTP: the bodies of Orders, with the same validation. Needs pydantic only.

The peers run where Twofold, and so Orders, is not installed. A test compares these bodies with those of Orders.
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    return text


Id = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), AfterValidator(_without_nul)
]
Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200), AfterValidator(_without_nul)]
Line = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_without_nul)
]
_MONEY = re.compile(r"^-?[0-9]{1,8}(\.[0-9]{1,4})?$")


def _plain_decimal(value: object) -> object:
    if isinstance(value, str) and not _MONEY.fullmatch(value):
        raise ValueError("must be a plain decimal number, such as 12.50, with up to 8 digits and 4 decimal places")
    return value


Money = Annotated[Decimal, Field(max_digits=12, decimal_places=4), BeforeValidator(_plain_decimal)]
Quantity = Annotated[int, Field(strict=True, ge=-1_000_000, le=1_000_000)]


class AddressBody(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    street: Line
    city: Line
    postal_code: Line
    country: Line


class ItemBody(BaseModel):
    product_id: Id
    quantity: Quantity
    price: Money
    description: Text = ""


class CreateOrderBody(BaseModel):
    customer_id: Id
    items: list[ItemBody] = Field(max_length=1000)
    shipping_address: AddressBody


class Acknowledgement(BaseModel):
    order_id: str
    version: int


class OrderStatus(StrEnum):
    OPEN = "open"
    PAID = "paid"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"


class ItemOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    product_id: str
    quantity: int
    price: Decimal
    description: str = ""


class AddressOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    street: str
    city: str
    postal_code: str
    country: str


class OrderOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    order_id: str
    version: int
    customer_id: str
    status: OrderStatus
    total_amount: Decimal
    item_count: int
    created_at: datetime
    shipped_at: datetime | None
    cancelled_at: datetime | None
    cancellation_reason: str | None
    returned_amount: Decimal
    paid_amount: Decimal
    owed_amount: Decimal
    refunded_amount: Decimal
    reminded_at: datetime | None
    items: tuple[ItemOut, ...]
    shipping_address: AddressOut


ORDER: dict[str, Any] = {
    "customer_id": "customer-0042",
    "items": [
        {"product_id": "85123A", "quantity": 6, "price": "2.55", "description": "WHITE HANGING HEART T-LIGHT HOLDER"},
        {"product_id": "71053", "quantity": 6, "price": "3.39", "description": "WHITE METAL LANTERN"},
    ],
    "shipping_address": {
        "street": "1 Analytical Row", "city": "London", "postal_code": "W1 1AA", "country": "United Kingdom",
    },
}  # fmt: skip
"""What each POST of the benchmark orders."""

NEW: dict[str, Any] = {
    "version": 1, "status": OrderStatus.OPEN, "shipped_at": None, "cancelled_at": None, "cancellation_reason": None,
    "returned_amount": Decimal("0.00"), "paid_amount": Decimal("0.00"), "owed_amount": Decimal("0.00"),
    "refunded_amount": Decimal("0.00"), "reminded_at": None,
}  # fmt: skip
"""What an order shows besides what was ordered while it is new."""
