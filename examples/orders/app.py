"""The application: everything is wired here, in ordinary Python."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from orders.commands import (
    AddItem,
    AddItemHandler,
    CancelOrder,
    CancelOrderHandler,
    CreateOrder,
    CreateOrderHandler,
    RemoveItem,
    RemoveItemHandler,
    ReturnItem,
    ReturnItemHandler,
    ShipOrder,
    ShipOrderHandler,
)
from orders.order import Order
from orders.queries import (
    GetCustomerOrders,
    GetCustomerOrdersHandler,
    GetOrderById,
    GetOrderByIdHandler,
    SalesByMonth,
    SalesByMonthHandler,
    SearchOrders,
    SearchOrdersHandler,
)
from orders.reports import add_reports
from orders.views import OrderViews, Sales
from twofold import Application, Command, Query, Receipt
from twofold.errors import StaleReadError

R = TypeVar("R")

PATIENCE = 1.0
"""Seconds that a question waits, at most, for what this process has written before."""


def build(url: str, *, reports: Path | None = None) -> Application:
    """Return the application, wired and not yet started; see `add_reports` for `reports`."""
    app = Application(url)
    orders = app.repository(Order)
    app.commands.register(CreateOrder, CreateOrderHandler(orders))
    app.commands.register(AddItem, AddItemHandler(orders))
    app.commands.register(RemoveItem, RemoveItemHandler(orders))
    app.commands.register(ShipOrder, ShipOrderHandler(orders))
    app.commands.register(CancelOrder, CancelOrderHandler(orders))
    app.commands.register(ReturnItem, ReturnItemHandler(app.store, orders))

    views = app.projections.add(OrderViews())
    sales = app.projections.add(Sales())
    app.queries.register(GetOrderById, GetOrderByIdHandler(views))
    app.queries.register(GetCustomerOrders, GetCustomerOrdersHandler(views))
    app.queries.register(SearchOrders, SearchOrdersHandler(views))
    app.queries.register(SalesByMonth, SalesByMonthHandler(sales))
    if reports:
        add_reports(app, reports)
    return app


class Shop:
    """The application as its edges see it: commands go in, questions are answered, and see what went in before."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.written = 0
        """The last position that this process has written, or found written when it started."""

    @asynccontextmanager
    async def lifespan(self, api: object) -> AsyncIterator[None]:
        """Run the application as long as a web framework runs. What was acknowledged before a crash is written, too."""
        async with self.app.lifespan(api):
            self.written = await self.app.store.head()
            yield

    async def execute(self, command: Command) -> Receipt[Any]:
        """Carry out a command; see `CommandBus.execute`."""
        receipt = await self.app.commands.execute(command)
        self.written = max(self.written, receipt.position)
        return receipt

    async def ask(self, query: Query[R]) -> R:
        """Answer a question, as far as possible with all that this process has written before."""
        try:
            return await self.app.queries.dispatch(query, after=self.written, timeout=PATIENCE)
        except StaleReadError:
            return await self.app.queries.dispatch(query)
