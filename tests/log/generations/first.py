"""The first generation: one event says all of an order, prices are texts, and each look at an item is an event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from twofold import Event, EventStore, Tag


@dataclass(frozen=True, kw_only=True)
class OrderPlaced(Event):
    order_id: Annotated[str, Tag("order")]
    name: str
    total: str
    street: str


@dataclass(frozen=True, kw_only=True)
class ItemViewed(Event):
    order_id: Annotated[str, Tag("order")]
    sku: str


@dataclass(frozen=True, kw_only=True)
class OrderShipped(Event):
    order_id: Annotated[str, Tag("order")]
    carrier: str


async def write(store: EventStore, order: str) -> None:
    """Append the life of an order."""
    events = [
        ItemViewed(order_id=order, sku="tea"),
        OrderPlaced(order_id=order, name="Ada Lovelace", total="19.90", street="1 Main St, Oslo"),
        OrderShipped(order_id=order, carrier="mule"),
    ]
    await store.append_events(f"Order-{order}", "Order", events, expected_version=0)
