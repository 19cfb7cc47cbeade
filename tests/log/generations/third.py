"""The third generation: names have two parts, shipping is called dispatching, and orders are paid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from tests.log.generations.second import OrderMoved, in_cents

from twofold import Event, EventStore, Tag, event_type


def split_name(old: dict[str, Any]) -> dict[str, Any]:
    given, _, family = old.pop("name").partition(" ")
    return old | {"given": given, "family": family}


@event_type(version=3, upcasters={1: in_cents, 2: split_name})
@dataclass(frozen=True, kw_only=True)
class OrderPlaced(Event):
    order_id: Annotated[str, Tag("order")]
    given: str
    family: str
    cents: int
    street: str


@event_type(version=2, upcasters={1: lambda old: old | {"parcels": 1}}, aliases=("OrderShipped",))
@dataclass(frozen=True, kw_only=True)
class OrderDispatched(Event):
    order_id: Annotated[str, Tag("order")]
    carrier: str
    parcels: int


@dataclass(frozen=True, kw_only=True)
class OrderPaid(Event):
    order_id: Annotated[str, Tag("order")]
    cents: int


async def write(store: EventStore, order: str) -> None:
    """Append the life of an order."""
    events = [
        OrderPlaced(order_id=order, given="Ada", family="Lovelace", cents=1990, street="1 Main St, Oslo"),
        OrderMoved(order_id=order, street="3 Low St, Bern", phone="33"),
        OrderPaid(order_id=order, cents=0),
        OrderPaid(order_id=order, cents=1990),
        OrderDispatched(order_id=order, carrier="rail", parcels=3),
    ]
    await store.append_events(f"Order-{order}", "Order", events, expected_version=0)
