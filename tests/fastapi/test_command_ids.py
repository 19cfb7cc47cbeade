"""An idempotency key has a scope: the caller, the tenant and the operation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from fastapi import Depends, FastAPI, Header
from twofold import metadata
from twofold.fastapi import CommandId, command_id_within

OwnId = Annotated[UUID, Depends(command_id_within(lambda request: request.headers.get("x-shop", "")))]


@pytest.fixture
def client() -> TestClient:
    async def caller(x_user: str | None = Header(None), x_tenant: str | None = Header(None)) -> AsyncIterator[None]:
        with metadata(user=x_user, tenant=x_tenant):
            yield

    api = FastAPI(dependencies=[Depends(caller)])

    @api.post("/orders/{order}/items")
    async def add_item(order: str, id: CommandId) -> UUID:
        return id

    @api.post("/orders")
    async def create_order(id: CommandId) -> UUID:
        return id

    @api.post("/own")
    async def own(id: OwnId) -> UUID:
        return id

    return TestClient(api)


def id_of(client: TestClient, path: str, key: str, **headers: str) -> str:
    fields = {"Idempotency-Key": key} | {f"x-{name}": value for name, value in headers.items()}
    answer = client.post(path, headers=fields)
    assert answer.status_code == 200, answer.text
    return str(answer.json())


@pytest.mark.parametrize("key", ["checkout-17", "0b9dee9c-7746-4b48-9ab4-f565ff832586"])
def test_a_key_is_the_same_for_one_caller_and_another_for_every_other_one(client: TestClient, key: str) -> None:
    callers = [
        {"user": "ann"},
        {"user": "bob"},
        {"user": "ann", "tenant": "t1"},
        {"tenant": "t1"},
        {"tenant": "ann"},
        {},
    ]
    ids = [[id_of(client, "/orders", key, **caller) for caller in callers] for _ in range(2)]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == len(callers)


def test_a_key_belongs_to_an_operation_and_not_to_a_resource(client: TestClient) -> None:
    first, second = (id_of(client, f"/orders/{order}/items", "k") for order in "12")
    assert first == second != id_of(client, "/orders", "k")


def test_a_key_that_is_a_uuid_is_the_id_where_no_caller_is_known(client: TestClient) -> None:
    key = str(uuid4())
    assert id_of(client, "/orders", key) == key


def test_an_application_may_name_the_scope(client: TestClient) -> None:
    ids = {id_of(client, "/own", "k", shop=shop) for shop in ("a", "b", "a")}
    assert len(ids) == 2
