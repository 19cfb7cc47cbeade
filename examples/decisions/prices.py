"""Dynamic prices: an order is accepted at the prices that the customer was shown, if they are recent enough.

After <https://dcb.events/examples/dynamic-product-price/>: a price that has changed stays good for ten minutes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated

from twofold import Application, AwareDatetime, Command, DecisionModel, Event, EventQuery, Tag, combine

GRACE = timedelta(minutes=10)
"""How long an earlier price is accepted."""


class PriceError(Exception):
    """The price is none of the product's, or has been changed for too long."""


@dataclass(frozen=True, kw_only=True)
class PriceSet(Event):
    """A product costs this much from now on; the first one puts it on sale."""

    product: Annotated[str, Tag("product")]
    price: Decimal
    set_at: AwareDatetime


@dataclass(frozen=True)
class Item:
    """What a customer wants, at the price that the customer saw."""

    product: str
    price: Decimal


@dataclass(frozen=True, kw_only=True)
class ProductsOrdered(Event):
    """Products were sold."""

    products: Annotated[tuple[str, ...], Tag("product")]
    total: Decimal


@dataclass(frozen=True, kw_only=True)
class SetPrice(Command[None]):
    """Sell a product at a price."""

    product: str
    price: Decimal


@dataclass(frozen=True, kw_only=True)
class OrderProducts(Command[Decimal]):
    """Buy products at the prices shown; returns what they cost together."""

    items: tuple[Item, ...]


@dataclass(frozen=True)
class Prices:
    """The prices of a product that are good at a moment."""

    present: Decimal | None = None
    earlier: frozenset[Decimal] = frozenset()

    def include(self, price: Decimal) -> bool:
        """Return whether an order at this price is accepted."""
        return price == self.present or price in self.earlier


def prices_of(product: str, at: datetime) -> DecisionModel[Prices]:
    """Return the model of the prices at which a product may be ordered at a moment."""

    def evolve(prices: Prices, event: PriceSet) -> Prices:
        if prices.present is None or at >= event.set_at + GRACE:
            return replace(prices, present=event.price)
        return Prices(event.price, prices.earlier | {prices.present})

    query = EventQuery.of(PriceSet, tags=[f"product:{product}"])
    return DecisionModel(query=query, initial_state=Prices(), evolve=evolve)


def wire(app: Application) -> None:
    """Register the events and the handlers."""
    app.store.events.register(PriceSet, ProductsOrdered)

    async def set_price(command: SetPrice) -> None:
        event = PriceSet(product=command.product, price=command.price, set_at=command.timestamp)
        await app.store.append([event])

    async def order(command: OrderProducts) -> Decimal:
        if not command.items:
            raise PriceError("order a product at least")
        products = tuple(item.product for item in command.items)
        models = (prices_of(product, command.timestamp) for product in products)
        known = (await app.store.decide(combine(*models))).state
        for item, accepted in zip(command.items, known, strict=True):
            if not accepted.include(item.price):
                raise PriceError(f"{item.product!r} does not cost {item.price}")
        total = sum((item.price for item in command.items), Decimal(0))
        await app.store.append([ProductsOrdered(products=products, total=total)])
        return total

    app.commands.register(SetPrice, set_price)
    app.commands.register(OrderProducts, order)
