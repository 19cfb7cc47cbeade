"""kill -9 of the server while many clients write: what was acknowledged is there, once, and the read model agrees.

The oracle is a ledger that the clients keep: what they asked for under which key, and what was acknowledged.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from tests.acceptance.servers import serving
from tests.acceptance.test_http import HOME

from orders.app import Shop, build
from orders.events import OrderCreated, OrderItemAdded
from orders.queries import GetOrderById, SalesByMonth
from orders.views import OrderView, OrderViews, Sale, Sales
from twofold import EventQuery, Projection

WRITERS = 16
ACKNOWLEDGED_PER_ROUND = 100


@dataclass
class Request:
    """What a client asked for, and whether it knows that it was done."""

    path: str
    json: dict[str, Any]
    answer: dict[str, Any] | None = None
    token: str = ""


@dataclass
class Ledger:
    """All requests, each under its idempotency key."""

    requests: dict[str, Request] = field(default_factory=dict)

    @property
    def acknowledged(self) -> list[Request]:
        """The requests that were answered."""
        return [request for request in self.requests.values() if request.answer]

    async def send(self, client: httpx2.AsyncClient, path: str, json: dict[str, Any]) -> str:
        """Note a request, send it, note the answer; return the order's id."""
        key = str(uuid4())
        self.requests[key] = Request(path, json)
        return await self.repeat(client, key)

    async def repeat(self, client: httpx2.AsyncClient, key: str) -> str:
        """Send a request (again) and note the answer; return the order's id."""
        request = self.requests[key]
        answer = await client.post(request.path, json=request.json, headers={"Idempotency-Key": key})
        assert answer.status_code in (200, 201), answer.text
        request.answer, request.token = answer.json(), answer.headers["Consistency-Token"]
        return str(request.answer["order_id"])


async def test_what_was_acknowledged_before_a_kill_is_there_once_and_the_read_model_agrees(tmp_path: Path) -> None:
    await campaign(tmp_path / "orders.db", rounds=2)


@pytest.mark.soak
async def test_what_was_acknowledged_before_many_kills_is_there_once(tmp_path: Path) -> None:
    await campaign(tmp_path / "orders.db", rounds=200)


async def campaign(database: Path, rounds: int) -> None:
    ledger = Ledger()
    for _ in range(rounds):
        await write_until_killed(database, ledger)
    await everything_acknowledged_is_shown(database, ledger)
    await the_log_holds_everything_once(database, ledger)


async def write_until_killed(database: Path, ledger: Ledger) -> None:
    target = len(ledger.acknowledged) + ACKNOWLEDGED_PER_ROUND
    enough = asyncio.Event()
    async with serving(database) as (server, url), httpx2.AsyncClient(base_url=url) as client:
        writers = [asyncio.create_task(write(client, ledger, target, enough)) for _ in range(WRITERS)]
        await enough.wait()
        server.kill()
        await asyncio.gather(*writers)


async def write(client: httpx2.AsyncClient, ledger: Ledger, target: int, enough: asyncio.Event) -> None:
    """Create orders and add items to them until the server is gone. The product tells which request it was."""
    try:
        while True:
            order = await ledger.send(
                client, "/orders", {"customer_id": "ada", "items": [an_item()], "shipping_address": HOME}
            )
            await ledger.send(client, f"/orders/{order}/items", an_item())
            if len(ledger.acknowledged) >= target:
                enough.set()
    except httpx2.TransportError:
        assert enough.is_set(), "the server went away by itself"


def an_item() -> dict[str, Any]:
    return {"product_id": str(uuid4()), "quantity": 1, "price": "1.50"}


async def everything_acknowledged_is_shown(database: Path, ledger: Ledger) -> None:
    async with serving(database) as (_, url), httpx2.AsyncClient(base_url=url) as client:
        for request in ledger.acknowledged:
            assert request.answer
            token = {"Consistency-Token": request.token} if request.token else {}
            order = (await client.get(f"/orders/{request.answer['order_id']}", headers=token)).json()
            item = request.json.get("items", [request.json])[0]
            assert [each["quantity"] for each in order["items"] if each["product_id"] == item["product_id"]] == [1]
        for key in ledger.requests:  # those of unknown outcome take effect now; the others must not, again
            await ledger.repeat(client, key)


async def the_log_holds_everything_once(database: Path, ledger: Ledger) -> None:
    app = build(f"sqlite:///{database}")
    async with app:
        shop = Shop(app)
        shop.written = await app.store.head()
        products: Counter[str] = Counter()
        async for recorded in app.store.read(EventQuery.of(OrderCreated, OrderItemAdded)):
            event = recorded.event
            items = event.items if isinstance(event, OrderCreated) else (event.item,)
            products.update(item.product_id for item in items)
        asked_for = [request.json.get("items", [request.json])[0]["product_id"] for request in ledger.requests.values()]
        assert products == Counter(asked_for)
        await the_read_models_equal_a_fresh_fold(shop)


async def the_read_models_equal_a_fresh_fold(shop: Shop) -> None:
    views: dict[Any, OrderView] = await folded(shop, OrderViews())
    for order_id, row in views.items():
        assert await shop.ask(GetOrderById(order_id)) == row
    sales: dict[Any, Sale] = await folded(shop, Sales())
    (line,) = await shop.ask(SalesByMonth())
    assert (line.orders, line.items_sold) == (len(sales), sum(sale.items_sold for sale in sales.values()))
    assert line.revenue == sum(sale.revenue for sale in sales.values())


async def folded(shop: Shop, projection: Projection[Any]) -> dict[Any, Any]:
    """Fold the log by plain steps, one event after the other."""
    rows: dict[Any, Any] = {}
    async for recorded in shop.app.store.read(EventQuery.of(*projection.handles())):
        (key,) = projection.key(recorded.event)
        rows[key] = projection.apply(rows.get(key), recorded)
    return rows


async def test_the_campaign_notices_an_acknowledged_order_that_is_lost(tmp_path: Path) -> None:
    lost = Request("/orders", {"items": [an_item()]}, {"order_id": "lost", "version": 1})
    with pytest.raises((AssertionError, KeyError)):
        await everything_acknowledged_is_shown(tmp_path / "orders.db", Ledger({"key": lost}))


async def test_the_campaign_notices_a_command_that_took_effect_twice(tmp_path: Path) -> None:
    ledger = Ledger()
    async with serving(tmp_path / "orders.db") as (_, url), httpx2.AsyncClient(base_url=url) as client:
        order = {"customer_id": "ada", "items": [an_item()], "shipping_address": HOME}
        await ledger.send(client, "/orders", order)
        await client.post("/orders", json=order)  # the naive retry, without the key
    with pytest.raises(AssertionError):
        await the_log_holds_everything_once(tmp_path / "orders.db", ledger)


async def test_the_campaign_notices_a_read_model_that_disagrees_with_the_log(tmp_path: Path) -> None:
    ledger = Ledger()
    async with serving(tmp_path / "orders.db") as (_, url), httpx2.AsyncClient(base_url=url) as client:
        order = {"customer_id": "ada", "items": [an_item()], "shipping_address": HOME}
        await client.get(f"/orders/{await ledger.send(client, '/orders', order)}")
    with closing(sqlite3.connect(tmp_path / "orders.db", isolation_level=None)) as connection:
        connection.execute("UPDATE order_views__1 SET item_count = item_count + 1")
    with pytest.raises(AssertionError):
        await the_log_holds_everything_once(tmp_path / "orders.db", ledger)
