"""What a request leaves behind beside its answer: nothing that the garbage collector would have to find."""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient

from fastapi import FastAPI
from orders.app import build
from orders.http import build_api
from twofold.fastapi import CommandId, add_problem_details

ORDER = json.dumps(
    {
        "customer_id": "ada",
        "items": [{"product_id": "TEA", "quantity": 2, "price": 12.90}],
        "shipping_address": {"street": "1 Row", "city": "London", "postal_code": "W1", "country": "UK"},
    }
).encode()


async def ask(api: FastAPI, method: str, path: str, body: bytes = b"") -> dict[bytes, bytes]:
    """Send a request as a server does, and return the headers of its response."""
    fields = {"host": "shop", "content-type": "application/json", "content-length": str(len(body))}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await api(scope, receive, send)
    assert sent[0]["status"] < 300, sent
    return dict(sent[0]["headers"])


@contextmanager
def garbage() -> Iterator[Counter[str]]:
    """Count, at the end of the block, the objects of ours that only the garbage collector could free."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        types = [type(each) for each in gc.garbage]
        found.update(f"{each.__module__}.{each.__name__}" for each in types if each.__module__.startswith("twofold."))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def test_a_request_leaves_no_cycle_behind(url: str) -> None:
    app = build(url, synchronize=False)
    api = build_api(app)
    async with app:
        place = (await ask(api, "POST", "/orders", ORDER))[b"location"].decode()
        with garbage() as found:
            for _ in range(20):
                await ask(api, "POST", "/orders", ORDER)
                await ask(api, "POST", f"{place}/items", json.dumps(json.loads(ORDER)["items"][0]).encode())
                await ask(api, "GET", "/customers/ada/orders")
        assert found == {}


def keyed() -> FastAPI:
    api = FastAPI()
    add_problem_details(api)

    @api.post("/things")
    async def make_thing(command_id: CommandId) -> str:
        return str(command_id)

    return api


def test_openapi_names_the_key_of_operations_that_take_one_also_of_those_that_come_later() -> None:
    api = keyed()
    client = TestClient(api)

    def keys(path: str, method: str) -> list[str]:
        operation = client.get("/openapi.json").json()["paths"][path][method]
        return [each["name"] for each in operation.get("parameters", []) if each["in"] == "header"]

    assert keys("/things", "post") == ["idempotency-key"]

    @api.get("/things")
    async def list_things() -> str:
        return ""

    @api.delete("/things")
    async def end_things(command_id: CommandId) -> str:
        return str(command_id)

    assert (keys("/things", "get"), keys("/things", "delete")) == ([], ["idempotency-key"])
    assert keys("/things", "post") == ["idempotency-key"]


@pytest.mark.parametrize("key", ["", "k" * 201])
def test_a_key_that_is_empty_or_too_long_is_refused(key: str) -> None:
    answer = TestClient(keyed()).post("/things", headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "idempotency-key")


def test_a_key_as_long_as_may_be_is_taken() -> None:
    assert TestClient(keyed()).post("/things", headers={"Idempotency-Key": "k" * 200}).status_code == 200
