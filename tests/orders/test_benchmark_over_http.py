"""The contenders over HTTP take and give what Orders does: figures of other bodies could not be compared."""

from __future__ import annotations

from typing import Any

import pytest
from bench.http import bare, bodies
from fastapi.testclient import TestClient
from pydantic import BaseModel, TypeAdapter, ValidationError

from orders import schemas
from orders.app import build
from orders.http import build_api
from orders.views import ShownOrder

ITEM, ADDRESS = bodies.ORDER["items"][0], bodies.ORDER["shipping_address"]
LONG = "x" * 201


def verdict(body: type[BaseModel], given: object) -> object:
    """Return what a body makes of what a client sends: its values, or where it is wrong and how."""
    try:
        return body.model_validate(given).model_dump()
    except ValidationError as error:
        return [(each["loc"], each["type"]) for each in error.errors()]


def with_item(**changes: Any) -> dict[str, Any]:
    return {**bodies.ORDER, "items": [ITEM, {**ITEM, **changes}]}


def with_address(**changes: Any) -> dict[str, Any]:
    return {**bodies.ORDER, "shipping_address": {**ADDRESS, **changes}}


@pytest.mark.parametrize(
    "given",
    [
        bodies.ORDER,
        {},
        {**bodies.ORDER, "customer_id": " "},
        {**bodies.ORDER, "customer_id": "a\0"},
        {**bodies.ORDER, "items": [ITEM] * 1001},
        *(with_item(price=each) for each in ["1_000", "1e2", "-0.0001", 2.5, "100000000", "0.00001", None]),
        *(with_item(quantity=each) for each in [1.0, "2", -1_000_000, 1_000_001]),
        *(with_item(product_id=each) for each in ["", LONG, 7]),
        *(with_item(description=each) for each in ["", " a ", LONG]),
        *(with_address(**{name: each}) for name in ADDRESS for each in ["", " a ", LONG, "a\0"]),
    ],
)
def test_all_contenders_check_what_a_client_sends_as_orders_does(given: object) -> None:
    assert verdict(bodies.CreateOrderBody, given) == verdict(schemas.CreateOrderBody, given)


def shape(model: type) -> object:
    """Return the JSON that a model gives, without what only documents it, and whatever its parts are called."""
    whole = TypeAdapter(model).json_schema(mode="serialization")
    parts = whole.pop("$defs", {})

    def pruned(part: Any) -> Any:
        if isinstance(part, dict):
            part = parts.get(part.get("$ref", "").rpartition("/")[2], part)
            return {
                name: pruned(each)
                for name, each in part.items()
                if not isinstance(each, str | list) or name not in ("title", "description", "examples")
            }
        return list(map(pruned, part)) if isinstance(part, list) else part

    return pruned(whole)


@pytest.mark.parametrize(
    ("theirs", "ours"), [(bodies.OrderOut, ShownOrder), (bodies.Acknowledgement, schemas.Acknowledgement)]
)
def test_all_contenders_give_what_orders_gives(theirs: type, ours: type) -> None:
    assert shape(theirs) == shape(ours)


def test_the_bare_route_answers_with_the_order_that_orders_would_show() -> None:
    floor = TestClient(bare.make())
    with TestClient(build_api(build("memory://")), base_url="http://127.0.0.1") as orders:
        created = orders.post("/orders", json=bodies.ORDER)
        shown = orders.get(
            created.headers["location"], headers={"Consistency-Token": created.headers["consistency-token"]}
        )
        assert (created.status_code, shown.status_code) == (201, 200)
    known = floor.get(created.headers["location"])
    differing = {name for name, value in shown.json().items() if known.json()[name] != value}
    assert differing == {"order_id", "created_at"}
    assert known.json().keys() == shown.json().keys()
    assert known.headers["etag"] == shown.headers["etag"]
