"""The fifth generation, today's: cities stand apart, payments have a currency, and no payment is of nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from tests.log.generations.second import in_cents
from tests.log.generations.third import split_name

from twofold import Event, EventStore, Into, RetiredType, Tag, event_type


def without_address(old: dict[str, Any]) -> Iterator[dict[str, Any] | Into]:
    street = old.pop("street")
    yield old
    yield Into(AddressChanged, {"order_id": old["order_id"], "street": street})


def moved(old: dict[str, Any]) -> Iterator[Into]:
    yield Into(AddressChanged, {"order_id": old["order_id"], "street": old["street"]})
    yield Into(PhoneChanged, {"order_id": old["order_id"], "phone": old["phone"]})


def with_city(old: dict[str, Any]) -> dict[str, Any]:
    street, _, city = old["street"].partition(", ")
    return old | {"street": street, "city": city}


def with_currency(old: dict[str, Any]) -> dict[str, Any] | None:
    if not old["cents"]:
        return None
    return {"order_id": old["order_id"], "amount": str(Decimal(old["cents"]) / 100), "currency": "EUR"}


@event_type(version=4, upcasters={1: in_cents, 2: split_name, 3: without_address})
@dataclass(frozen=True, kw_only=True)
class OrderPlaced(Event):
    order_id: Annotated[str, Tag("order")]
    given: str
    family: str
    cents: int


ORDER_MOVED = RetiredType("OrderMoved", upcasters={1: moved})
ITEM_VIEWED = RetiredType("ItemViewed")


@event_type(version=2, upcasters={1: with_city}, made_of=(OrderPlaced, ORDER_MOVED))
@dataclass(frozen=True, kw_only=True)
class AddressChanged(Event):
    order_id: Annotated[str, Tag("order")]
    street: str
    city: str


@event_type(made_of=(ORDER_MOVED,))
@dataclass(frozen=True, kw_only=True)
class PhoneChanged(Event):
    order_id: Annotated[str, Tag("order")]
    phone: str


@event_type(version=2, upcasters={1: lambda old: old | {"parcels": 1}}, aliases=("OrderShipped",))
@dataclass(frozen=True, kw_only=True)
class OrderDispatched(Event):
    order_id: Annotated[str, Tag("order")]
    carrier: str
    parcels: int


@event_type(version=2, upcasters={1: with_currency})
@dataclass(frozen=True, kw_only=True)
class OrderPaid(Event):
    order_id: Annotated[str, Tag("order")]
    amount: Decimal
    currency: str


ALL = (OrderPlaced, AddressChanged, PhoneChanged, OrderDispatched, OrderPaid, ITEM_VIEWED)


async def write(store: EventStore, order: str) -> None:
    """Append the life of an order."""
    events = [
        OrderPlaced(order_id=order, given="Ada", family="Lovelace", cents=1990),
        AddressChanged(order_id=order, street="5 New St", city="Kyiv"),
        PhoneChanged(order_id=order, phone="55"),
        OrderPaid(order_id=order, amount=Decimal("19.90"), currency="EUR"),
        OrderDispatched(order_id=order, carrier="drone", parcels=5),
    ]
    await store.append_events(f"Order-{order}", "Order", events, expected_version=0)
