"""What the HTTP API takes and gives, as JSON. Money goes out as a decimal string, and comes in as string or number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    field_validator,
)

from orders.items import MAX_ITEMS, Address, OrderItem
from orders.views import ShownOrder
from twofold import PaginatedResult, marked_html


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
MONEY = r"^-?[0-9]{1,8}(\.[0-9]{1,4})?$"
_MONEY = re.compile(MONEY)


def _plain_decimal(value: object) -> object:
    """Refuse texts that Python's `Decimal` takes and the documented grammar does not: 1_000, 1e2, other digits."""
    if isinstance(value, str) and not _MONEY.fullmatch(value):
        raise ValueError("must be a plain decimal number, such as 12.50, with up to 8 digits and 4 decimal places")
    return value


Money = Annotated[
    Decimal,
    Field(max_digits=12, decimal_places=4, examples=["12.50"]),  # before a function of Python, behind which it is slow
    BeforeValidator(_plain_decimal),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "pattern": MONEY}, {"type": "number", "multipleOf": 0.0001}],
            "examples": ["12.50"],
        },
        mode="validation",
    ),
]
# The sign of quantity and price is a rule of the domain, which says so in its own words; here it is only documented.
Quantity = Annotated[int, Field(strict=True, ge=-1_000_000, le=1_000_000, json_schema_extra={"minimum": 1})]


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be between the years 1 and 9999 in UTC") from None


class AddressBody(BaseModel):
    """Where an order is sent."""

    model_config = ConfigDict(from_attributes=True)

    street: Line = Field(examples=["1 Analytical Row"])
    city: Line = Field(examples=["London"])
    postal_code: Line = Field(examples=["W1 1AA"])
    country: Line = Field(examples=["United Kingdom"])

    def value(self) -> Address:
        """Return it as the domain has it."""
        return Address(street=self.street, city=self.city, postal_code=self.postal_code, country=self.country)


class ItemBody(BaseModel):
    """A quantity of one product, at one price each."""

    product_id: Id = Field(examples=["85123A"])
    quantity: Quantity = Field(examples=[2])
    price: Money
    description: Text = Field("", examples=["White hanging heart T-light holder"])

    def value(self) -> OrderItem:
        """Return it as the domain has it."""
        return OrderItem(self.product_id, self.quantity, self.price, self.description)


class CreateOrderBody(BaseModel):
    """What `POST /orders` takes."""

    customer_id: Id = Field(examples=["ada"])
    items: list[ItemBody] = Field(
        max_length=1000,
        json_schema_extra={"minItems": 1},
        description=f"Up to 1000 in one request; an order has at most {MAX_ITEMS}, with those that are added later.",
    )
    shipping_address: AddressBody


class Acknowledgement(BaseModel):
    """A change that is stored durably."""

    order_id: str = Field(examples=["0198c7a1-5f0e-7c3e-9a57-3d1f0a4be001"])
    version: int = Field(description="Number of changes the order has seen.", examples=[1])


class PaymentBody(BaseModel):
    """What the bank tells of a payment."""

    payment_id: Id = Field(description="The bank's own id of it.", examples=["p-4711"])
    amount: Money


class DeliveryBody(BaseModel):
    """What came into the warehouse."""

    quantity: Quantity = Field(examples=[10])


class StockOut(BaseModel):
    """How many pieces of a product there are."""

    model_config = ConfigDict(from_attributes=True)

    product_id: str
    available: int
    reserved: int = Field(description="Put aside for orders, also for those that were shipped since.")


class ReminderBody(BaseModel):
    """When a customer is to be reminded."""

    at: Annotated[AwareDatetime, AfterValidator(_in_utc)] = Field(examples=["2030-01-31T09:00:00Z"])


class ReminderOut(BaseModel):
    """A reminder that waits for its time."""

    reminder_id: str
    order_id: str
    at: datetime


class OrderPage(BaseModel):
    """One page of orders."""

    model_config = ConfigDict(from_attributes=True)

    items: list[ShownOrder]
    total: int
    page: int
    page_size: int
    total_pages: int
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; cheap however deep that is.")


class FoundOrders(OrderPage):
    """One page of orders that were searched for."""

    matches: list[dict[str, str]] = Field(
        [],
        description="For each item, the texts that hold the words, as HTML in which they are marked.",
        examples=[[{"address_text": "1 Row W1 <mark>London</mark> UK"}]],
    )

    @classmethod
    def of(cls, page: PaginatedResult[Any]) -> Self:
        """Return a page with what was found in it."""
        found = cls.model_validate(page)
        found.matches = [
            {field: marked_html(getattr(row, field), ranges) for field, ranges in fields.items()}
            for row, fields in zip(page.items, page.highlights, strict=False)
        ]
        return found


class RevenueLineOut(BaseModel):
    """What was sold. What the report is not broken down by is null."""

    model_config = ConfigDict(from_attributes=True)

    month: str | None = Field(examples=["2011-12"])
    country: str | None
    product: str | None
    pieces: int
    revenue: Decimal
    returned: Decimal


class SalesLineOut(BaseModel):
    """What was sold in a month to a country."""

    model_config = ConfigDict(from_attributes=True)

    month: str = Field(examples=["2011-12"])
    country: str
    orders: int
    items_sold: int
    revenue: Decimal
    returned: Decimal


class ProjectionHealth(BaseModel):
    """How far a read model has come."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    state: str
    position: int
    head: int
    behind: int
    parked: int
    """Events that are parked, since their projection failed on them or on an earlier one of their order."""
    problems: list[str]
    """What is wrong. Causes, which may name files and servers, are in the log and in `twofold projections`."""

    @field_validator("problems", mode="before")
    @classmethod
    def _without_causes(cls, problems: Sequence[str]) -> list[str]:
        return [problem.partition(":")[0] for problem in problems]


class Health(BaseModel):
    """Whether the application does its work."""

    status: str = Field(description="`ok`, or `faulted` if a read model has problems.", examples=["ok"])
    projections: list[ProjectionHealth]
