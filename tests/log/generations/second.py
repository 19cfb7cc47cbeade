"""The second generation: prices are cents, and an order may move to another address and phone."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from tests.log.generations.first import ItemViewed, OrderShipped

from twofold import Event, EventStore, Tag, event_type


def in_cents(old: dict[str, Any]) -> dict[str, Any]:
    total = old.pop("total")
    return old | {"cents": int(Decimal(total) * 100)}


@event_type(version=2, upcasters={1: in_cents})
@dataclass(frozen=True, kw_only=True)
class OrderPlaced(Event):
    order_id: Annotated[str, Tag("order")]
    name: str
    cents: int
    street: str


@dataclass(frozen=True, kw_only=True)
class OrderMoved(Event):
    order_id: Annotated[str, Tag("order")]
    street: str
    phone: str


async def write(store: EventStore, order: str) -> None:
    """Append the life of an order."""
    events = [
        OrderPlaced(order_id=order, name="Ada Lovelace", cents=1990, street="1 Main St, Oslo"),
        ItemViewed(order_id=order, sku="tea"),
        OrderMoved(order_id=order, street="2 Side St, Rome", phone="22"),
        OrderShipped(order_id=order, carrier="ship"),
        ItemViewed(order_id=order, sku="cup"),
    ]
    await store.append_events(f"Order-{order}", "Order", events, expected_version=0)
