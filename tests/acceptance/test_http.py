"""The HTTP API of Orders, as a client sees it."""

from __future__ import annotations

import base64
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.synchronizing import PATIENCE

from orders.app import build
from orders.http import build_api
from orders.views import OrderViews
from twofold import Application
from twofold.options import Options, SqliteOptions

HOME = {"street": "Rämistrasse 1", "city": "Zürich", "postal_code": "8001", "country": "Switzerland"}
TEA = {"product_id": "tea", "quantity": 2, "price": "12.90"}
CUP = {"product_id": "cup", "quantity": 1, "price": "8.75"}


@pytest.fixture
def app(url: str) -> Application:
    return build(url)


@pytest.fixture
def client(app: Application) -> Iterator[TestClient]:
    with TestClient(build_api(app), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def shared(shared_url: str) -> Iterator[TestClient]:
    """Return a client of one application for all tests that look at no order of another one."""
    with TestClient(build_api(build(shared_url)), raise_server_exceptions=False) as client:
        yield client


def body(*items: dict[str, Any], customer: str = "ada") -> dict[str, Any]:
    return {"customer_id": customer, "items": list(items) or [TEA], "shipping_address": HOME}


def created(client: TestClient, *items: dict[str, Any], customer: str = "ada") -> str:
    answer = client.post("/orders", json=body(*items, customer=customer))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["order_id"])


def assert_problem(answer: Any, status: int, *fields: str) -> None:
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "detail"} <= set(problem)
    assert [error["field"] for error in problem.get("errors", [])] == list(fields)


def test_an_order_is_created_and_found_at_its_location(shared: TestClient) -> None:
    answer = shared.post("/orders", json=body(TEA, CUP))
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/orders/{answer.json()['order_id']}"
    order = shared.get(answer.headers["location"]).json()
    assert {key: order[key] for key in ("customer_id", "status", "total_amount", "item_count", "shipped_at")} == {
        "customer_id": "ada",
        "status": "open",
        "total_amount": "34.55",
        "item_count": 2,
        "shipped_at": None,
    }
    assert order["items"][0] == {"product_id": "tea", "quantity": 2, "price": "12.90", "description": ""}
    assert order["shipping_address"] == HOME
    assert order["created_at"].endswith("Z")


def test_an_order_lives(shared: TestClient) -> None:
    url = f"/orders/{created(shared)}"
    assert shared.post(f"{url}/items", json=CUP).json()["version"] == 2
    assert shared.get(url).json()["total_amount"] == "34.55"
    assert shared.delete(f"{url}/items/tea").status_code == 200
    assert shared.get(url).json()["total_amount"] == "8.75"
    assert shared.post(f"{url}/ship").status_code == 200
    order = shared.get(url).json()
    assert (order["status"], order["shipped_at"] is None) == ("shipped", False)


def test_an_order_is_cancelled_with_a_reason(shared: TestClient) -> None:
    url = f"/orders/{created(shared)}"
    assert_problem(shared.delete(url), 422, "reason")
    assert_problem(shared.delete(url, params={"reason": " "}), 422, "reason")
    assert shared.delete(url, params={"reason": "mistake"}).status_code == 200
    order = shared.get(url).json()
    assert (order["status"], order["cancellation_reason"]) == ("cancelled", "mistake")


def test_what_the_state_forbids_is_a_conflict(shared: TestClient) -> None:
    url = f"/orders/{created(shared)}"
    assert_problem(shared.delete(f"{url}/items/tea"), 409)
    shared.post(f"{url}/ship")
    assert_problem(shared.post(f"{url}/ship"), 409)
    assert_problem(shared.post(f"{url}/items", json=CUP), 409)
    assert_problem(shared.delete(url, params={"reason": "late"}), 409)


def test_what_is_not_there_is_not_found(shared: TestClient) -> None:
    url = f"/orders/{created(shared)}"
    assert_problem(shared.get("/orders/none"), 404)
    assert_problem(shared.post("/orders/none/ship"), 404)
    assert_problem(shared.post("/orders/none/items", json=CUP), 404)
    assert_problem(shared.delete("/orders/none", params={"reason": "x"}), 404)
    assert_problem(shared.delete(f"{url}/items/pot"), 404)
    assert_problem(shared.get("/nowhere"), 404)


def test_a_wrong_method_is_told(shared: TestClient) -> None:
    assert_problem(shared.put("/orders"), 405)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"customer_id": ""}, "customer_id"),
        ({"customer_id": "a\0da"}, "customer_id"),
        ({"customer_id": 7}, "customer_id"),
        ({"items": []}, "items"),
        ({"items": [TEA, CUP | {"quantity": 0}]}, "items[1].quantity"),
        ({"items": [CUP | {"quantity": -1}]}, "items[0].quantity"),
        ({"items": [CUP | {"quantity": 1.5}]}, "items[0].quantity"),
        ({"items": [CUP | {"quantity": True}]}, "items[0].quantity"),
        ({"items": [CUP | {"quantity": 10**30}]}, "items[0].quantity"),
        ({"items": [CUP | {"price": "0"}]}, "items[0].price"),
        ({"items": [CUP | {"price": -1}]}, "items[0].price"),
        ({"items": [CUP | {"price": "NaN"}]}, "items[0].price"),
        ({"items": [CUP | {"price": "Infinity"}]}, "items[0].price"),
        ({"items": [CUP | {"price": "1e999999"}]}, "items[0].price"),
        ({"items": [CUP | {"price": "0.00001"}]}, "items[0].price"),
        ({"items": [{"product_id": "cup", "quantity": 1}]}, "items[0].price"),
        ({"items": [CUP | {"product_id": "x" * 101}]}, "items[0].product_id"),
        ({"items": [CUP] * 1001}, "items"),
        ({"shipping_address": HOME | {"city": ""}}, "shipping_address.city"),
        ({"shipping_address": None}, "shipping_address"),
    ],
)
def test_an_order_that_cannot_be_names_the_field(shared: TestClient, change: dict[str, Any], field: str) -> None:
    assert_problem(shared.post("/orders", json=body() | change), 422, field)


def test_an_item_that_cannot_be_names_the_field(shared: TestClient) -> None:
    url = f"/orders/{created(shared)}/items"
    assert_problem(shared.post(url, json=CUP | {"quantity": 0}), 422, "quantity")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"customer_id": NaN}'])
def test_a_body_that_is_no_order_is_refused(shared: TestClient, content: bytes) -> None:
    answer = shared.post("/orders", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["errors"]


def test_too_large_a_body_is_refused(shared: TestClient) -> None:
    assert_problem(shared.post("/orders", content=b"x" * (1024 * 1024 + 1)), 413)


def test_a_price_is_taken_as_string_or_number_without_rounding(shared: TestClient) -> None:
    items = [
        {"product_id": "a", "quantity": 3, "price": 0.1},
        {"product_id": "b", "quantity": 1, "price": "99999999.9999"},
        {"product_id": "c", "quantity": 1, "price": 5},
    ]
    order = shared.get(f"/orders/{created(shared, *items)}").json()
    assert [item["price"] for item in order["items"]] == ["0.10", "99999999.9999", "5.00"]
    assert order["total_amount"] == "100000005.2999"


def test_a_price_with_more_digits_than_money_has_is_refused_and_not_rounded(shared: TestClient) -> None:
    raw = json.dumps(body(CUP)).replace('"8.75"', "0.30000000000000000001")
    answer = shared.post("/orders", content=raw, headers={"Content-Type": "application/json"})
    assert_problem(answer, 422, "items[0].price")


def test_a_product_id_may_hold_a_slash(shared: TestClient) -> None:
    url = f"/orders/{created(shared, TEA, CUP | {'product_id': 'a/b'})}"
    assert shared.delete(f"{url}/items/a%2Fb").status_code == 200
    assert [item["product_id"] for item in shared.get(url).json()["items"]] == ["tea"]


def test_the_same_idempotency_key_takes_effect_once(client: TestClient) -> None:
    key = {"Idempotency-Key": "checkout-17"}
    first, second = (client.post("/orders", json=body(), headers=key) for _ in range(2))
    assert (first.status_code, first.json()) == (second.status_code, second.json()) == (201, first.json())
    assert client.get("/customers/ada/orders").json()["total"] == 1
    assert_problem(client.post("/orders", json=body(CUP), headers=key), 422, "Idempotency-Key")


def test_a_change_is_made_only_to_the_order_that_was_seen(shared: TestClient) -> None:
    url = f"/orders/{created(shared)}"
    seen = {"If-Match": shared.get(url).headers["etag"]}
    assert shared.post(f"{url}/items", json=CUP, headers=seen).headers["etag"] == '"2"'
    assert_problem(shared.post(f"{url}/ship", headers=seen), 412, "If-Match")
    assert shared.get(url).json()["status"] == "open"
    assert shared.post(f"{url}/ship", headers={"If-Match": shared.get(url).headers["etag"]}).status_code == 200


def test_a_repeated_shipment_with_its_key_is_answered_alike(client: TestClient) -> None:
    url, key = f"/orders/{created(client)}/ship", {"Idempotency-Key": "ship-17"}
    assert client.post(url, headers=key).json() == client.post(url, headers=key).json()


def test_a_customers_orders_come_in_pages_and_by_status(client: TestClient) -> None:
    ids = [created(client) for _ in range(5)]
    created(client, customer="bob")
    client.post(f"/orders/{ids[0]}/ship")
    page = client.get("/customers/ada/orders", params={"page": 2, "page_size": 2}).json()
    assert [order["order_id"] for order in page["items"]] == [ids[2], ids[1]]
    assert (page["total"], page["page"], page["page_size"], page["total_pages"]) == (5, 2, 2, 3)
    shipped = client.get("/customers/ada/orders", params={"status": "shipped"}).json()
    assert [order["order_id"] for order in shipped["items"]] == [ids[0]]
    assert client.get("/customers/nobody/orders").json()["items"] == []


def test_a_search_is_not_taken_for_an_order(client: TestClient) -> None:
    cheap, dear = created(client, CUP), created(client, TEA)
    found = client.get("/orders/search", params={"q": "zuri", "sort_by": "total_amount", "sort_order": "asc"}).json()
    assert [order["order_id"] for order in found["items"]] == [cheap, dear]
    found = client.get("/orders/search", params={"min_amount": "8.76", "max_amount": "25.80", "status": "open"}).json()
    assert [order["order_id"] for order in found["items"]] == [dear]


def test_a_search_goes_on_at_its_cursor(client: TestClient) -> None:
    ids = {created(client) for _ in range(5)}
    seen: set[str] = set()
    cursor: dict[str, str] = {}
    for _ in range(3):
        page = client.get("/orders/search", params={"page_size": "2"} | cursor).json()
        seen |= {order["order_id"] for order in page["items"]}
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else {}
    assert seen == ids


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("page", "0"),
        ("page", "x"),
        ("page", str(10**30)),
        ("page_size", "0"),
        ("page_size", "101"),
        ("sort_by", "items_text"),
        ("sort_by", "total_amount; DROP TABLE order_views"),
        ("sort_order", "sideways"),
        ("status", "lost"),
        ("date_from", "yesterday"),
        ("date_to", "2011-02-30"),
        ("min_amount", "cheap"),
        ("max_amount", "NaN"),
        ("q", "a\0b"),
        ("q", "x" * 201),
        ("cursor", "nonsense"),
        ("cursor", "ä"),
    ],
)
def test_a_bad_parameter_is_named(shared: TestClient, parameter: str, value: str) -> None:
    assert_problem(shared.get("/orders/search", params={parameter: value}), 422, parameter)


@pytest.mark.parametrize(
    ("sort", "value"),
    [("item_count", 10**30), ("created_at", "0001-01-01T00:00:00+14:00"), ("created_at", "noon"), ("status", 7)],
)
def test_a_forged_cursor_is_refused(shared: TestClient, sort: str, value: object) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps([[sort, "order_id"], [value, "x"]]).encode()).decode()
    assert_problem(shared.get("/orders/search", params={"sort_by": sort, "cursor": cursor}), 422, "cursor")


@pytest.mark.parametrize("words", ['"', "'", "a OR", "NEAR(", "*", "-x", "\\", "col:x", "(", "日本", "\U0001f600", "%"])
def test_whatever_is_searched_for_is_text_and_never_syntax(shared: TestClient, words: str) -> None:
    created(shared)
    assert shared.get("/orders/search", params={"q": words}).status_code == 200


@pytest.mark.parametrize("path", ["/orders/%00", "/orders/" + "x" * 101, "/customers/%00/orders"])
def test_an_id_that_cannot_be_is_refused(shared: TestClient, path: str) -> None:
    assert shared.get(path).status_code == 422


def test_the_sales_report_speaks_of_money_in_strings(client: TestClient) -> None:
    created(client, TEA, CUP)
    (line,) = client.get("/reports/sales").json()
    assert (line["orders"], line["items_sold"], line["revenue"], line["country"]) == (1, 3, "34.55", "Switzerland")


def test_health_shows_how_far_the_read_models_are(client: TestClient) -> None:
    client.get(f"/orders/{created(client)}")  # which waits for the order
    client.get("/reports/sales")
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = client.get("/health")
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")
        behind = {each["name"]: each["behind"] for each in answer.json()["projections"]}
        if behind == {"order_views": 0, "sales": 0}:
            break
        assert time.monotonic() < deadline, behind


def test_while_nobody_keeps_the_read_models_an_order_is_refused_and_a_list_is_stale(url: str) -> None:
    at_once = {"Prefer": "wait=0"}
    with TestClient(build_api(build(url, synchronize=False)), raise_server_exceptions=False) as client:
        refused = client.get(f"/orders/{created(client)}", headers=at_once)  # rather than to say that there is none
        assert_problem(refused, 503)
        assert refused.headers["retry-after"] == "1"
        stale = client.get("/customers/ada/orders", headers=at_once)
        assert (stale.status_code, stale.json()["total"]) == (200, 0)
        assert stale.headers["consistency"].startswith("stale; age=")


def test_health_is_503_when_a_read_model_has_problems(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the view is broken")

    monkeypatch.setattr(OrderViews, "apply", fail)
    created(client)
    while not any(each["parked"] for each in client.get("/health").json()["projections"]):  # it is tried a few times
        client.get("/customers/ada/orders", headers={"Prefer": "wait=0"})
    while client.get("/health").json()["projections"][0]["problems"] != ["1 events are parked"]:
        pass  # while it was tried again, that was a problem, too
    health = client.get("/health")
    assert (health.status_code, health.json()["status"]) == (503, "faulted")
    found = {each["name"]: (each["parked"], each["problems"]) for each in health.json()["projections"]}
    assert found == {"order_views": (1, ["1 events are parked"]), "sales": (0, [])}


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_database_that_is_away_is_503_and_not_500(url: str, tmp_path: Path) -> None:
    impatient = Options(sqlite=SqliteOptions(lock_timeout=0.05))
    with TestClient(build_api(build(url, options=impatient)), raise_server_exceptions=False) as client:
        order = f"/orders/{created(client)}/ship"
        locker = sqlite3.connect(tmp_path / "twofold.db", isolation_level=None)
        locker.execute("BEGIN IMMEDIATE")
        try:
            answer = client.post(order)
        finally:
            locker.execute("ROLLBACK")
            locker.close()
        assert_problem(answer, 503)
        assert client.post(order).status_code == 200


def test_openapi_is_complete(shared: TestClient) -> None:
    document = shared.get("/openapi.json").json()
    assert_is_complete(document)
    item = document["components"]["schemas"]["ItemBody"]["properties"]
    assert item["price"]["examples"] == ["12.50"]
    assert document["components"]["schemas"]["CreateOrderBody"]["properties"]["customer_id"]["examples"]


def assert_is_complete(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            problems = {
                status
                for status, answer in operation["responses"].items()
                if "application/problem+json" in answer.get("content", {})
            }
            assert operation["description"], (method, path)
            assert path == "/health" or "503" in problems, (method, path)
            assert method == "get" or {"409", "413", "422"} <= problems, (method, path)


def test_a_search_marks_the_words_that_were_found(client: TestClient) -> None:
    created(client, {**TEA, "description": "<Darjeeling> & more"})
    found = client.get("/orders/search", params={"q": "darj zurich"}).json()
    assert found["matches"] == [
        {
            "items_text": "tea &lt;<mark>Darjeeling</mark>&gt; &amp; more",
            "address_text": "R\u00e4mistrasse 1 8001 <mark>Z\u00fcrich</mark> Switzerland",
        }
    ]
    assert client.get("/orders/search").json()["matches"] == []
