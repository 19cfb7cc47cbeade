"""The application: everything is wired here, in ordinary Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from orders.commands import (
    AddItem,
    AddItemHandler,
    CancelOrder,
    CancelOrderHandler,
    CreateOrder,
    CreateOrderHandler,
    RemindOfPayment,
    RemindOfPaymentHandler,
    RemoveItem,
    RemoveItemHandler,
    ReturnItem,
    ReturnItemHandler,
    ShipOrder,
    ShipOrderHandler,
    TakePayment,
    TakePaymentHandler,
)
from orders.fulfilment import Fulfilling, add_fulfilment
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
from twofold import Application, Command, Query, ReadPolicy, Receipt, WhenLate
from twofold.options import Options

R = TypeVar("R")

EXACT = ReadPolicy(5.0)
"""One order: rather no answer than an old one."""
LENIENT = ReadPolicy(1.0, WhenLate.ANSWER_STALE)
"""Lists and reports: rather an old answer, which says so, than none."""


def build(
    url: str,
    *,
    synchronize: bool = True,
    reports: Path | None = None,
    replica_url: str | None = None,
    fulfilment: Fulfilling | None = None,
    options: Options | None = None,
) -> Application:
    """Return the application, wired and not yet started.

    Args:
        url: of the database.
        synchronize: whether it keeps the read models itself.
        reports: see `add_reports`.
        replica_url: of a streaming standby that answers the queries.
        fulfilment: who sees orders through to their end; without it, they are shipped by hand.
        options: of the application, such as pauses.
    """
    app = Application(url, synchronize=synchronize, replica_url=replica_url, options=options)
    orders = app.repository(Order)
    app.commands.register(CreateOrder, CreateOrderHandler(orders))
    app.commands.register(AddItem, AddItemHandler(orders))
    app.commands.register(RemoveItem, RemoveItemHandler(orders))
    app.commands.register(TakePayment, TakePaymentHandler(orders))
    app.commands.register(RemindOfPayment, RemindOfPaymentHandler(orders))
    app.commands.register(ShipOrder, ShipOrderHandler(orders))
    app.commands.register(CancelOrder, CancelOrderHandler(orders))
    app.commands.register(ReturnItem, ReturnItemHandler(app.store, orders))

    views = app.projections.add(OrderViews())
    sales = app.projections.add(Sales())
    app.queries.register(GetOrderById, GetOrderByIdHandler(views), policy=EXACT)
    app.queries.register(GetCustomerOrders, GetCustomerOrdersHandler(views), policy=LENIENT)
    app.queries.register(SearchOrders, SearchOrdersHandler(views), policy=LENIENT)
    app.queries.register(SalesByMonth, SalesByMonthHandler(sales), policy=LENIENT)
    if fulfilment:
        add_fulfilment(app, fulfilment)
    if reports:
        add_reports(app, reports, LENIENT)
    return app


class Shop:
    """The application as programs use it that are its only client: what they ask shows what they wrote before."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.written = 0
        """The last position that was written."""

    async def execute(self, command: Command) -> Receipt[Any]:
        """Carry out a command; see `CommandBus.execute`."""
        receipt = await self.app.commands.execute(command)
        self.written = max(self.written, receipt.position)
        return receipt

    async def ask(self, query: Query[R]) -> R:
        """Answer a question; see `QueryBus.dispatch`."""
        return await self.app.queries.dispatch(query, after=self.written)
