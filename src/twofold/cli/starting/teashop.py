"""The application of `twofold demo`: a shop that takes orders for tea, and counts them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from twofold import Application, Command, Event, Key, Projection, Query, Tag, on

TEAS = ("Assam", "Darjeeling", "Earl Grey", "Lapsang", "Oolong", "Sencha")


@dataclass(frozen=True, kw_only=True)
class OrderTaken(Event):
    """A customer ordered a tea."""

    number: int
    tea: Annotated[str, Tag("tea")]


@dataclass(frozen=True, kw_only=True)
class TakeOrder(Command[int]):
    """Take an order, and return its number."""

    number: int
    tea: str


@dataclass(frozen=True)
class TeaSales:
    """A row of the read model."""

    tea: Annotated[str, Key()]
    orders: int = 0


@dataclass(frozen=True)
class GetSales(Query[list[TeaSales]]):
    """How often was each tea ordered?"""


class SalesByTea(Projection[TeaSales]):
    """Counts the orders of each tea."""

    name = "sales_by_tea"

    @on(OrderTaken)
    def taken(self, row: TeaSales | None, event: OrderTaken) -> TeaSales:
        """Count an order."""
        row = row or TeaSales(event.tea)
        return replace(row, orders=row.orders + 1)


def build(url: str) -> Application:
    """Return the shop on a database."""
    app = Application(url)
    sales = app.projections.add(SalesByTea())

    async def take(command: TakeOrder) -> int:
        await app.store.append([OrderTaken(number=command.number, tea=command.tea)])
        return command.number

    async def get_sales(query: GetSales) -> list[TeaSales]:
        return list((await sales.page(sort="tea")).items)

    app.commands.register(TakeOrder, take)
    app.queries.register(GetSales, get_sales)
    return app
