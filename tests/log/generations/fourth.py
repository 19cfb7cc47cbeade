"""The fourth generation: addresses and phones are events of their own, and looks at items are no events any more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from tests.log.generations.second import in_cents
from tests.log.generations.third import OrderDispatched, OrderPaid, split_name

from twofold import Event, EventStore, Into, RetiredType, Tag, event_type


def without_address(old: dict[str, Any]) -> Iterator[dict[str, Any] | Into]:
    street = old.pop("street")
    yield old
    yield Into(AddressChanged, {"order_id": old["order_id"], "street": street})


def moved(old: dict[str, Any]) -> Iterator[Into]:
    yield Into(AddressChanged, {"order_id": old["order_id"], "street": old["street"]})
    yield Into(PhoneChanged, {"order_id": old["order_id"], "phone": old["phone"]})


@event_type(version=4, upcasters={1: in_cents, 2: split_name, 3: without_address})
@dataclass(frozen=True, kw_only=True)
class OrderPlaced(Event):
    order_id: Annotated[str, Tag("order")]
    given: str
    family: str
    cents: int


ORDER_MOVED = RetiredType("OrderMoved", upcasters={1: moved})
ITEM_VIEWED = RetiredType("ItemViewed")


@event_type(made_of=(OrderPlaced, ORDER_MOVED))
@dataclass(frozen=True, kw_only=True)
class AddressChanged(Event):
    order_id: Annotated[str, Tag("order")]
    street: str


@event_type(made_of=(ORDER_MOVED,))
@dataclass(frozen=True, kw_only=True)
class PhoneChanged(Event):
    order_id: Annotated[str, Tag("order")]
    phone: str


async def write(store: EventStore, order: str) -> None:
    """Append the life of an order."""
    events = [
        OrderPlaced(order_id=order, given="Ada", family="Lovelace", cents=1990),
        AddressChanged(order_id=order, street="4 High St, Lima"),
        PhoneChanged(order_id=order, phone="44"),
        OrderPaid(order_id=order, cents=1990),
        OrderDispatched(order_id=order, carrier="air", parcels=4),
    ]
    await store.append_events(f"Order-{order}", "Order", events, expected_version=0)
