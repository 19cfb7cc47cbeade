"""The revenue report on DuckDB, against figures that are computed straight from the events."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import pytest_asyncio
from fastapi.testclient import TestClient
from tests.orders.samples import CUP, HOME, NOON, TEA
from tests.synchronizing import PATIENCE

from orders.app import Shop, build
from orders.commands import AddItem, CancelOrder, CreateOrder, RemoveItem, ReturnItem, ShipOrder
from orders.events import OrderCancelled, OrderCreated, OrderItemAdded, OrderItemRemoved, OrderItemReturned
from orders.http import build_api
from orders.items import OrderItem
from orders.reports import GetRevenue, RevenueBy, RevenueLine

PRODUCTS = [replace(TEA, product_id=product, price=Decimal(price)) for product, price in (("tea", "3.5"), ("jug", 9))]
EVERYTHING = (RevenueBy.MONTH, RevenueBy.COUNTRY, RevenueBy.PRODUCT)
Key = tuple[str, str, str]


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with build(f"sqlite:///{tmp_path}/orders.db", reports=tmp_path / "reports.duckdb") as app:
        yield Shop(app)


async def trade(shop: Shop, chance: random.Random) -> None:
    """Let orders be created, changed, shipped, returned and cancelled."""
    for number in range(60):
        order, day = f"o{number}", NOON + timedelta(days=chance.randrange(90))
        items = tuple(replace(chance.choice(PRODUCTS), quantity=chance.randint(1, 9)) for _ in range(3))
        country = chance.choice(["UK", "Schweiz", "Côte d'Ivoire"])
        address = replace(HOME, country=country)
        await shop.execute(
            CreateOrder(order_id=order, customer_id=order, items=items, shipping_address=address, timestamp=day)
        )
        if len({item.product_id for item in items}) > 1 and chance.random() < 0.5:
            await shop.execute(RemoveItem(order_id=order, product_id=items[0].product_id))
            await shop.execute(AddItem(order_id=order, item=CUP))
        if chance.random() < 0.2:
            await shop.execute(CancelOrder(order_id=order, reason="mistake"))
        else:
            await shop.execute(ShipOrder(order_id=order, timestamp=day))
            if items[-1].product_id != items[0].product_id:
                back = replace(items[-1], quantity=1)
                await shop.execute(ReturnItem(customer_id=order, item=back, timestamp=day + timedelta(days=40)))
    await shop.app.projections.wait(shop.written, PATIENCE)


async def figures(shop: Shop) -> dict[Key, tuple[int, Decimal, Decimal]]:
    """Add up what the events say, in a way of its own: a list of changes, without those of cancelled orders."""
    changes: list[tuple[str, str, int, Decimal, Decimal]] = []
    where: dict[str, tuple[str, str]] = {}

    def sold(order: str, item: OrderItem, sign: int) -> None:
        changes.append((order, item.product_id, sign * item.quantity, sign * item.amount, Decimal(0)))

    async for recorded in shop.app.store.read():
        match recorded.event:
            case OrderCreated() as event:
                where[event.order_id] = (f"{event.created_at:%Y-%m}", event.shipping_address.country)
                for item in event.items:
                    sold(event.order_id, item, 1)
            case OrderItemAdded(order_id=order, item=item):
                sold(order, item, 1)
            case OrderItemRemoved(order_id=order, removed=removed):
                for item in removed:
                    sold(order, item, -1)
            case OrderItemReturned(order_id=order, item=item):
                changes.append((order, item.product_id, 0, Decimal(0), item.amount))
            case OrderCancelled(order_id=order):
                del where[order]
    totals: dict[Key, tuple[int, Decimal, Decimal]] = {}
    for order, product, more, sold_for, refunded in changes:
        if order in where:
            pieces, revenue, returned = totals.get((*where[order], product), (0, Decimal(0), Decimal(0)))
            totals[*where[order], product] = (pieces + more, revenue + sold_for, returned + refunded)
    return {key: figures for key, figures in totals.items() if any(figures)}


def by_key(lines: list[RevenueLine]) -> dict[Key, tuple[int, Decimal, Decimal]]:
    return {(str(e.month), str(e.country), str(e.product)): (e.pieces, e.revenue, e.returned) for e in lines}


@pytest.mark.parametrize("seed", range(3))
async def test_revenue_is_what_the_events_add_up_to(shop: Shop, seed: int) -> None:
    await trade(shop, random.Random(seed))
    expected = await figures(shop)
    assert by_key([*await shop.ask(GetRevenue(EVERYTHING))]) == expected
    for place, by in enumerate(EVERYTHING):
        lines = await shop.ask(GetRevenue((by,)))
        sums = Counter[str]()
        for key, (pieces, _, _) in expected.items():
            sums[key[place]] += pieces
        assert {getattr(line, by.value): line.pieces for line in lines} == dict(sums)


async def test_another_process_reads_the_report_from_the_snapshots(tmp_path: Path) -> None:
    async with build(f"sqlite:///{tmp_path}/orders.db", reports=tmp_path / "reports.duckdb") as owner:
        await trade(Shop(owner), random.Random(1))
        lines = await Shop(owner).ask(GetRevenue(EVERYTHING))
    async with build(f"sqlite:///{tmp_path}/orders.db", reports=tmp_path / "reports") as reader:
        assert await Shop(reader).ask(GetRevenue(EVERYTHING)) == lines


def test_the_report_is_asked_for_over_http(tmp_path: Path) -> None:
    app = build(f"sqlite:///{tmp_path}/orders.db", reports=tmp_path / "reports.duckdb")
    with TestClient(build_api(app, reports=True)) as client:
        body = {
            "customer_id": "ada",
            "items": [{"product_id": "tea", "quantity": 2, "price": "12.90"}],
            "shipping_address": {"street": "1 Row", "city": "London", "postal_code": "W1", "country": "UK"},
        }
        assert client.post("/orders", json=body).status_code == 201
        answer = client.get("/reports/revenue", params={"by": "country,product"})
        assert answer.json() == [
            {"month": None, "country": "UK", "product": "tea", "pieces": 2, "revenue": "25.80", "returned": "0.00"}
        ]
        assert len(client.get("/reports/revenue", params={"by": "month,country,product"}).json()) == 1
        for bad in ("customer", "month,", "", "month;country"):
            assert client.get("/reports/revenue", params={"by": bad}).status_code == 422
