"""Whatever a client sends, the answer is never that the server failed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from orders.app import build
from orders.fulfilment import Fulfilling
from orders.http import build_api

TEA = {"product_id": "tea", "quantity": 2, "price": "12.90"}
HOME = {"street": "1 Row", "city": "London", "postal_code": "W1", "country": "UK"}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["1e400", "-0", "NaN", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
ITEMS = st.fixed_dictionaries({"product_id": st.text() | ANYTHING, "quantity": ANYTHING, "price": ANYTHING})
BODIES = st.fixed_dictionaries(
    {
        "customer_id": st.text() | ANYTHING,
        "items": st.lists(ITEMS, max_size=2) | ANYTHING,
        "shipping_address": st.just(HOME) | st.dictionaries(st.sampled_from(list(HOME)), ANYTHING),
    }
)
GOOD = st.fixed_dictionaries({"product_id": st.text(min_size=1), "quantity": st.integers(1), "price": st.decimals(0)})
PARAMETERS = (
    "q",
    "status",
    "min_amount",
    "max_amount",
    "date_from",
    "date_to",
    "sort_by",
    "page",
    "page_size",
    "cursor",
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder: Path = tmp_path_factory.mktemp("fuzz")
    app = build(f"sqlite:///{folder}/orders.db", fulfilment=Fulfilling())
    with TestClient(build_api(app, fulfilment=True), raise_server_exceptions=False) as client:
        yield client


def assert_no_failure(answer: Any) -> None:
    assert answer.status_code < 500, (answer.request.url, answer.request.content, answer.text)


@settings(max_examples=150, deadline=None)
@given(body=BODIES | ANYTHING)
def test_any_json_as_an_order(client: TestClient, body: object) -> None:
    content = json.dumps(body).encode("utf-8", "surrogatepass")
    assert_no_failure(client.post("/orders", content=content, headers={"Content-Type": "application/json"}))


@settings(max_examples=100, deadline=None)
@given(items=st.lists(GOOD, min_size=1, max_size=3), customer=st.text(min_size=1), key=st.uuids() | st.none())
def test_orders_that_are_nearly_good(
    client: TestClient, items: list[dict[str, Any]], customer: str, key: object
) -> None:
    body = json.dumps({"customer_id": customer, "items": items, "shipping_address": HOME}, default=str)
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": str(key)} if key else {})
    answer = client.post("/orders", content=body, headers=headers)
    assert_no_failure(answer)
    if answer.status_code == 201:
        assert client.get(answer.headers["location"]).json()["customer_id"] == customer.strip()


@settings(max_examples=100, deadline=None)
@given(content=st.binary())
def test_any_bytes_as_an_order(client: TestClient, content: bytes) -> None:
    assert_no_failure(client.post("/orders", content=content, headers={"Content-Type": "application/json"}))


@settings(max_examples=200, deadline=None)
@given(parameters=st.dictionaries(st.sampled_from(PARAMETERS), st.text(st.characters(exclude_categories=["Cs"]))))
def test_any_parameters_of_a_search(client: TestClient, parameters: dict[str, str]) -> None:
    assert_no_failure(client.get("/orders/search", params=parameters))


@settings(max_examples=100, deadline=None)
@given(
    payment=st.fixed_dictionaries({"payment_id": st.text() | ANYTHING, "amount": st.decimals() | ANYTHING}) | ANYTHING,
    at=st.datetimes(timezones=st.timezones()) | st.text() | ANYTHING,
    quantity=ANYTHING,
)
def test_anything_as_a_payment_a_reminder_or_a_delivery(
    client: TestClient, payment: object, at: object, quantity: object
) -> None:
    order = client.post("/orders", json={"customer_id": "a", "items": [TEA], "shipping_address": HOME}).json()
    for path, body in (
        (f"/orders/{order['order_id']}/payments", payment),
        (f"/orders/{order['order_id']}/reminders", {"at": at}),
        ("/products/tea/deliveries", {"quantity": quantity}),
    ):
        content = json.dumps(body, default=str).encode("utf-8", "surrogatepass")
        assert_no_failure(client.post(path, content=content, headers={"Content-Type": "application/json"}))


HEADERS = ("Consistency-Token", "Cookie", "If-Match", "Prefer", "Last-Event-ID", "Idempotency-Key")


@settings(max_examples=200, deadline=None)
@given(
    headers=st.dictionaries(
        st.sampled_from(HEADERS), st.binary(max_size=300) | st.sampled_from([b"consistency_token=AAAA", b'"1"', b"*"])
    )
)
def test_any_headers(client: TestClient, headers: dict[str, bytes]) -> None:
    raw = {name.encode(): value.replace(b"\0", b"").strip() for name, value in headers.items()}
    assert_no_failure(client.get("/orders/none", headers=raw))
    assert_no_failure(client.post("/orders/none/ship", headers=raw))
