"""Orders that are seen through to their end, over HTTP, also with the server killed in the middle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi.testclient import TestClient
from tests.acceptance.servers import serving
from tests.acceptance.test_http import HOME, assert_is_complete, assert_problem, body, created
from tests.synchronizing import PATIENCE

from orders.app import build
from orders.fulfilment import Fulfilling
from orders.http import build_api
from orders.partners import Carrier, Partners

TOTAL = "25.80"


@pytest.fixture
def client(url: str) -> Iterator[TestClient]:
    partners = Partners(carrier=Carrier(avoids=frozenset({"Finland"})))
    app = build(url, fulfilment=Fulfilling(partners, patience=timedelta(seconds=PATIENCE)))
    with TestClient(build_api(app, fulfilment=True), raise_server_exceptions=False) as client:
        yield client


def deliver(client: TestClient, quantity: int) -> None:
    assert client.post("/products/tea/deliveries", json={"quantity": quantity}).status_code == 204


def pay(client: TestClient, order: str, amount: str = TOTAL) -> Any:
    answer = client.post(f"/orders/{order}/payments", json={"payment_id": f"p-{order}", "amount": amount})
    assert answer.status_code == 200, answer.text
    return answer.json()


def until(client: TestClient, order: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return an order as soon as something holds of it."""
    deadline = time.monotonic() + PATIENCE
    while not holds(shown := client.get(f"/orders/{order}").json()):
        assert time.monotonic() < deadline, shown
        time.sleep(0.01)
    return dict(shown)


def test_a_paid_order_is_shipped(client: TestClient) -> None:
    deliver(client, 3)
    order = created(client)
    assert pay(client, order)["version"] == 2
    pay(client, order)  # the bank says so twice
    shown = until(client, order, lambda each: each["status"] == "shipped")
    assert (shown["paid_amount"], shown["owed_amount"], shown["refunded_amount"]) == (TOTAL, "0.00", "0.00")
    assert client.get("/products/tea").json() == {"product_id": "tea", "available": 1, "reserved": 2}


def test_what_is_out_of_stock_is_cancelled_and_paid_back(client: TestClient) -> None:
    order = created(client)
    pay(client, order)
    shown = until(client, order, lambda each: each["refunded_amount"] == TOTAL)
    assert (shown["status"], shown["owed_amount"]) == ("cancelled", "0.00")
    assert shown["cancellation_reason"] == "too few pieces of tea are in stock"


def test_what_cannot_be_sent_is_cancelled_paid_back_and_released(client: TestClient) -> None:
    deliver(client, 3)
    answer = client.post("/orders", json=body() | {"shipping_address": HOME | {"country": "Finland"}})
    order = answer.json()["order_id"]
    pay(client, order)
    shown = until(client, order, lambda each: each["refunded_amount"] == TOTAL)
    assert shown["cancellation_reason"] == "no carrier goes to Finland"
    deadline = time.monotonic() + PATIENCE
    while client.get("/products/tea").json()["available"] != 3:
        assert time.monotonic() < deadline


def test_a_payment_that_comes_after_the_cancellation_is_paid_back(client: TestClient) -> None:
    order = created(client)
    assert client.delete(f"/orders/{order}", params={"reason": "mistake"}).status_code == 200
    pay(client, order)
    until(client, order, lambda each: each["refunded_amount"] == TOTAL)


def test_what_is_paid_keeps_its_items(client: TestClient, url: str) -> None:
    deliver(client, 3)
    order = created(client)
    pay(client, order)
    until(client, order, lambda each: each["status"] == "shipped")
    refused = client.post(f"/orders/{order}/items", json={"product_id": "cup", "quantity": 1, "price": "1"})
    assert_problem(refused, 409)


def test_a_payment_or_a_delivery_that_cannot_be_is_refused(client: TestClient) -> None:
    order = created(client)
    wrong = client.post(f"/orders/{order}/payments", json={"payment_id": "p", "amount": "0"})
    assert_problem(wrong, 422, "amount")
    assert_problem(client.post("/orders/none/payments", json={"payment_id": "p", "amount": "1"}), 404)
    assert_problem(client.post("/products/tea/deliveries", json={"quantity": 0}), 422, "quantity")
    assert_problem(client.get("/products/none"), 404)


def test_a_reminder_is_accepted_shown_and_sent_when_its_time_has_come(client: TestClient) -> None:
    order = created(client)
    at = datetime.now(UTC) + timedelta(seconds=1)
    answer = client.post(f"/orders/{order}/reminders", json={"at": at.isoformat()})
    assert answer.status_code == 202
    place = answer.headers["location"]
    assert client.get(place).json() == answer.json()
    shown = until(client, order, lambda each: each["reminded_at"] is not None)
    assert datetime.fromisoformat(shown["reminded_at"]) >= at
    assert_problem(client.get(place), 404)
    assert_problem(client.delete(place), 404)


def test_a_reminder_is_given_up(client: TestClient) -> None:
    order = created(client)
    at = (datetime.now(UTC) + timedelta(days=9)).isoformat()
    key = {"Idempotency-Key": str(uuid4())}
    first = client.post(f"/orders/{order}/reminders", json={"at": at}, headers=key)
    assert client.post(f"/orders/{order}/reminders", json={"at": at}, headers=key).json() == first.json()
    other = client.post(f"/orders/{order}/reminders", json={"at": at}).json()
    place = first.headers["location"]
    assert client.delete(place).status_code == 204
    assert_problem(client.delete(place), 404)
    assert_problem(client.get(place), 404)
    deadline = time.monotonic() + PATIENCE
    while client.get("/reminders").json() != [other]:
        assert time.monotonic() < deadline


def test_a_reminder_of_no_order_or_at_no_time_is_refused(client: TestClient) -> None:
    at = "2030-01-31T09:00:00Z"
    assert_problem(client.post("/orders/none/reminders", json={"at": at}), 404)
    order = created(client)
    assert_problem(client.post(f"/orders/{order}/reminders", json={"at": "2030-01-31T09:00:00"}), 422, "at")
    never = client.post(f"/orders/{order}/reminders", json={"at": "0001-01-01T00:00:00+14:00"})
    assert_problem(never, 422, "at")
    assert_problem(client.delete("/reminders/none"), 404)


def test_the_documentation_has_it(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert_is_complete(document)
    assert {"/orders/{order_id}/payments", "/reminders/{reminder_id}"} <= set(document["paths"])


async def test_whatever_is_killed_each_order_comes_to_its_end_and_no_money_and_no_piece_is_lost(tmp_path: Path) -> None:
    await campaign(tmp_path / "orders.db", rounds=2)


@pytest.mark.soak
async def test_however_often_it_is_killed_no_money_and_no_piece_is_lost(tmp_path: Path) -> None:
    await campaign(tmp_path / "orders.db", rounds=100)


async def campaign(database: Path, rounds: int) -> None:
    """Order and pay, kill the server, again and again. The oracle is what the clients know was acknowledged.

    Of six paid orders in a round, four can be shipped; after all of them, one piece is left.
    """
    chance = Random()
    paid: dict[str, str] = {}
    unpaid: set[str] = set()
    async with serving(database, FULFIL="1") as (_, url), httpx2.AsyncClient(base_url=url) as client:
        answer = await client.post("/products/tea/deliveries", json={"quantity": 8 * rounds + 1})
        assert answer.status_code == 204
    for _ in range(rounds):
        async with serving(database, FULFIL="1") as (server, url), httpx2.AsyncClient(base_url=url) as client:
            shopping = [asyncio.create_task(shop(client, paid, unpaid, pays=number < 6)) for number in range(8)]
            await asyncio.gather(*shopping)
            await asyncio.sleep(chance.uniform(0, 0.3))  # the point at which it dies
            server.kill()
    async with serving(database, FULFIL="1") as (_, url), httpx2.AsyncClient(base_url=url) as client:
        orders = await ended(client, paid)
        stock = (await client.get("/products/tea")).json()
        open_ones = [(await client.get(f"/orders/{each}")).json()["status"] for each in unpaid]
    shipped = [each for each in orders if each["status"] == "shipped"]
    assert len(shipped) == 4 * rounds
    for each in orders:
        refunded = "0.00" if each["status"] == "shipped" else TOTAL
        assert (each["paid_amount"], each["owed_amount"], each["refunded_amount"]) == (TOTAL, "0.00", refunded)
    assert stock == {"product_id": "tea", "available": 1, "reserved": 8 * rounds}
    assert set(open_ones) == {"open"}


async def shop(client: httpx2.AsyncClient, paid: dict[str, str], unpaid: set[str], *, pays: bool) -> None:
    """Order tea, and pay for it or not."""
    answer = await client.post("/orders", json=body())
    assert answer.status_code == 201
    order = answer.json()["order_id"]
    if not pays:
        unpaid.add(order)
        return
    payment = {"payment_id": f"p-{order}", "amount": TOTAL}
    answer = await client.post(f"/orders/{order}/payments", json=payment)
    assert answer.status_code == 200
    paid[order] = payment["payment_id"]


async def ended(client: httpx2.AsyncClient, paid: dict[str, str]) -> list[dict[str, Any]]:
    """Return the paid orders, as soon as each is shipped, or cancelled and paid back."""
    async with asyncio.timeout(2 * PATIENCE):
        while True:
            orders = [(await client.get(f"/orders/{each}")).json() for each in paid]
            left = [each for each in orders if each["status"] not in ("shipped", "cancelled")]
            if not left and all(each["owed_amount"] == "0.00" for each in orders):
                return orders
            await asyncio.sleep(0.1)
