"""What all contenders take and give over HTTP: the bodies of Orders, with the same validation. Needs pydantic only."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    return text


Id = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), AfterValidator(_without_nul)
]
Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200), AfterValidator(_without_nul)]
Money = Annotated[Decimal, Field(max_digits=12, decimal_places=4)]
Quantity = Annotated[int, Field(strict=True, ge=-1_000_000, le=1_000_000)]


class AddressBody(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    street: Text
    city: Text
    postal_code: Text
    country: Text


class ItemBody(BaseModel):
    model_config = ConfigDict(from_attributes=True)

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


class OrderOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    order_id: str
    version: int
    customer_id: str
    status: str
    total_amount: Decimal
    item_count: int
    created_at: datetime
    items: list[ItemBody]
    shipping_address: AddressBody


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
