"""What one can ask about orders. Every answer comes from a read model, none from the event log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import StrEnum

from orders.order import OrderStatus
from orders.views import OrderView, Sale
from twofold import PaginatedResult, Query, QueryHandler, ReadModel
from twofold.ports.read_database import Filter


@dataclass(frozen=True)
class GetOrderById(Query[OrderView | None]):
    """One order, if there is such a one."""

    order_id: str


@dataclass(frozen=True, kw_only=True)
class GetCustomerOrders(Query[PaginatedResult[OrderView]]):
    """A customer's orders, the newest first."""

    customer_id: str
    status: OrderStatus | None = None
    page: int = 1
    page_size: int = 20
    cursor: str | None = None


class OrderSort(StrEnum):
    """By what a search may be sorted. Anything else is refused."""

    CREATED_AT = "created_at"
    TOTAL_AMOUNT = "total_amount"
    ITEM_COUNT = "item_count"
    CUSTOMER_ID = "customer_id"
    STATUS = "status"


@dataclass(frozen=True, kw_only=True)
class SearchOrders(Query[PaginatedResult[OrderView]]):
    """Orders that hold all the words, in customer, items or address, and that pass all the filters.

    Without `sort_by`, the best matches come first if there are words, else the newest orders.
    """

    text: str = ""
    status: OrderStatus | None = None
    min_amount: Decimal | None = None
    max_amount: Decimal | None = None
    date_from: date | None = None
    date_to: date | None = None
    """The whole day counts, in UTC."""
    sort_by: OrderSort | None = None
    descending: bool = True
    page: int = 1
    page_size: int = 20
    cursor: str | None = None


@dataclass(frozen=True)
class SalesByMonth(Query["Sequence[SalesLine]"]):
    """What was sold in each month to each country."""


@dataclass(frozen=True, kw_only=True)
class SalesLine:
    """A line of the sales report."""

    month: str
    country: str
    orders: int
    items_sold: int
    revenue: Decimal
    returned: Decimal


@dataclass(frozen=True)
class GetOrderByIdHandler(QueryHandler[GetOrderById, OrderView | None]):
    """Looks an order up."""

    views: ReadModel[OrderView]

    async def handle(self, query: GetOrderById) -> OrderView | None:
        """See `GetOrderById`."""
        return await self.views.get(query.order_id)


@dataclass(frozen=True)
class GetCustomerOrdersHandler(QueryHandler[GetCustomerOrders, PaginatedResult[OrderView]]):
    """Lists a customer's orders."""

    views: ReadModel[OrderView]

    async def handle(self, query: GetCustomerOrders) -> PaginatedResult[OrderView]:
        """See `GetCustomerOrders`."""
        where: list[Filter] = [("customer_id", "=", query.customer_id)]
        if query.status:
            where.append(("status", "=", query.status.value))
        return await self.views.page(
            where=where,
            sort=OrderSort.CREATED_AT,
            descending=True,
            page=query.page,
            page_size=query.page_size,
            cursor=query.cursor,
        )


@dataclass(frozen=True)
class SearchOrdersHandler(QueryHandler[SearchOrders, PaginatedResult[OrderView]]):
    """Searches all orders."""

    views: ReadModel[OrderView]

    async def handle(self, query: SearchOrders) -> PaginatedResult[OrderView]:
        """See `SearchOrders`."""
        by_rank = bool(query.text) and query.sort_by is None
        return await self.views.page(
            where=list(_filters(query)),
            search=query.text,
            sort=None if by_rank else query.sort_by or OrderSort.CREATED_AT,
            descending=query.descending and not by_rank,
            page=query.page,
            page_size=query.page_size,
            cursor=query.cursor,
            highlight=bool(query.text),
        )


@dataclass(frozen=True)
class SalesByMonthHandler(QueryHandler[SalesByMonth, Sequence[SalesLine]]):
    """Adds sales up."""

    sales: ReadModel[Sale]

    async def handle(self, query: SalesByMonth) -> Sequence[SalesLine]:
        """See `SalesByMonth`."""
        by = ("month", "country")
        totals = await self.sales.totals(by=by, of=["items_sold", "revenue", "returned"])
        return [
            SalesLine(
                month=total.by[0],
                country=total.by[1],
                orders=total.count,
                items_sold=total.sums[0],
                revenue=total.sums[1],
                returned=total.sums[2],
            )
            for total in totals
        ]


def _filters(query: SearchOrders) -> Iterator[Filter]:
    if query.status:
        yield "status", "=", query.status.value
    if query.min_amount is not None:
        yield "total_amount", ">=", query.min_amount
    if query.max_amount is not None:
        yield "total_amount", "<=", query.max_amount
    if query.date_from is not None:
        yield "created_at", ">=", datetime.combine(query.date_from, time.min, UTC)
    if query.date_to is not None:
        yield "created_at", "<=", datetime.combine(query.date_to, time.max, UTC)
