"""The revenue report: what was sold of which product, to which country, in which month, over all orders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from orders.events import OrderCancelled, OrderCreated, OrderItemAdded, OrderItemRemoved, OrderItemReturned
from orders.items import OrderItem
from twofold import Application, GroupedProjection, Key, Query, QueryHandler, ReadModel, ReadPolicy, on

NOTHING = Decimal("0.00")


@dataclass(frozen=True, kw_only=True)
class ProductSale:
    """What an order brought in by one product."""

    order_id: Annotated[str, Key()]
    product: Annotated[str, Key()]
    month: str
    """Of the order, such as "2011-12"; a return counts in the month of its order."""
    country: str
    pieces: int = 0
    revenue: Decimal = NOTHING
    returned: Decimal = NOTHING
    """What of the revenue was refunded."""


class Revenue(GroupedProjection[ProductSale]):
    """Keeps a row for each product of each order. An order that was cancelled brought nothing and has none."""

    name = "revenue"
    max_lag = timedelta(seconds=30)

    @on(OrderCreated)
    def created(self, event: OrderCreated) -> Iterable[ProductSale]:
        """Make the rows."""
        month, country = event.created_at.astimezone(UTC).strftime("%Y-%m"), event.shipping_address.country
        rows: tuple[ProductSale, ...] = ()
        for item in event.items:
            new = ProductSale(order_id=event.order_id, product=item.product_id, month=month, country=country)
            rows = _with(rows if _of(rows, item.product_id) else (*rows, new), item)
        return rows

    @on(OrderItemAdded)
    def item_added(self, rows: tuple[ProductSale, ...], event: OrderItemAdded) -> Iterable[ProductSale]:
        """Count more."""
        product = event.item.product_id
        if not _of(rows, product):
            new = replace(rows[0], product=product, pieces=0, revenue=NOTHING, returned=NOTHING)
            rows = (*rows, new)
        return _with(rows, event.item)

    @on(OrderItemRemoved)
    def item_removed(self, rows: tuple[ProductSale, ...], event: OrderItemRemoved) -> Iterable[ProductSale]:
        """Drop the row. There is always another one, for an order has an item."""
        return (row for row in rows if row.product != event.product_id)

    @on(OrderCancelled)
    def cancelled(self, rows: tuple[ProductSale, ...], event: OrderCancelled) -> None:
        """Drop the rows: nothing was sold."""

    @on(OrderItemReturned)
    def item_returned(self, rows: tuple[ProductSale, ...], event: OrderItemReturned) -> Iterable[ProductSale]:
        """Add up what was refunded."""
        item = event.item
        return (
            replace(row, returned=row.returned + item.amount) if row.product == item.product_id else row for row in rows
        )


class RevenueBy(StrEnum):
    """By what revenue is added up."""

    MONTH = "month"
    COUNTRY = "country"
    PRODUCT = "product"


@dataclass(frozen=True)
class GetRevenue(Query["Sequence[RevenueLine]"]):
    """What was sold, added up by all of these, in their order."""

    by: tuple[RevenueBy, ...] = (RevenueBy.MONTH,)


@dataclass(frozen=True, kw_only=True)
class RevenueLine:
    """A line of the report. What it is not broken down by is None."""

    month: str | None = None
    country: str | None = None
    product: str | None = None
    pieces: int
    revenue: Decimal
    returned: Decimal


@dataclass(frozen=True)
class GetRevenueHandler(QueryHandler[GetRevenue, "Sequence[RevenueLine]"]):
    """Adds revenue up."""

    sales: ReadModel[ProductSale]

    async def handle(self, query: GetRevenue) -> Sequence[RevenueLine]:
        """See `GetRevenue`."""
        by = tuple(dict.fromkeys(query.by))
        totals = await self.sales.totals(by=by, of=["pieces", "revenue", "returned"])
        return [
            RevenueLine(
                **dict(zip(by, each.by, strict=True)), pieces=each.sums[0], revenue=each.sums[1], returned=each.sums[2]
            )
            for each in totals
        ]


def add_reports(app: Application, reports: Path, policy: ReadPolicy) -> None:
    """Let an application answer `GetRevenue`, from DuckDB.

    Args:
        app: not yet started.
        reports: a file `….duckdb`, which this process then owns, and of which it writes snapshots into the folder of
            the same name; or such a folder, to read what another process writes there.
        policy: what to do while the report is late.

    Raises:
        ModuleNotFoundError: DuckDB is not installed.
    """
    from twofold.engines.duckdb import DuckDbReadDatabase, ParquetSnapshots

    if reports.suffix == ".duckdb":
        database = DuckDbReadDatabase(reports, snapshots=reports.with_suffix(""))
        sales = app.projections.add(Revenue(), database=database)
    else:
        sales = ReadModel(ParquetSnapshots(reports), Revenue())  # it waits for nothing, and says when it is stale
    app.queries.register(GetRevenue, GetRevenueHandler(sales), policy=policy)


def _of(rows: Iterable[ProductSale], product: str) -> bool:
    return any(row.product == product for row in rows)


def _with(rows: Iterable[ProductSale], item: OrderItem) -> tuple[ProductSale, ...]:
    return tuple(
        replace(row, pieces=row.pieces + item.quantity, revenue=row.revenue + item.amount)
        if row.product == item.product_id
        else row
        for row in rows
    )
