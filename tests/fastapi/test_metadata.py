"""On whose behalf a request is made, all that follows from it says: events, processes, and what these cause."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

from fastapi.testclient import TestClient
from tests.fulfilment import OrderPlaced, PaymentRequested, build, until_events

from fastapi import FastAPI, Request, Response
from twofold import Command, RecordedEvent, metadata


class Place(Command[None]):
    """Place the order a."""


def test_tenant_user_and_correlation_flow_from_a_request_to_what_a_process_causes(url: str) -> None:
    app, _ = build(url)
    api = FastAPI(lifespan=app.lifespan)

    @api.middleware("http")
    async def on_behalf(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        correlation = UUID(request.headers["x-correlation-id"])
        with metadata(correlation_id=correlation, tenant=request.headers["x-tenant"], user="ann"):
            return await call_next(request)

    @api.post("/orders")
    async def place() -> None:
        await app.commands.execute(Place())

    async def handle(_: Place) -> None:
        await app.store.append([OrderPlaced(order="a")])

    async def caused() -> list[RecordedEvent[Any]]:
        await until_events(app, "a", PaymentRequested)
        return [each async for each in app.store.read()]

    app.commands.register(Place, handle)
    with TestClient(api) as client:
        correlation = uuid4()
        headers = {"x-correlation-id": str(correlation), "x-tenant": "t1"}
        assert client.post("/orders", headers=headers).status_code == 200
        assert client.portal is not None
        events = client.portal.call(caused)
    assert {each.type for each in events} >= {"OrderPlaced", "twofold.ProcessStep", "PaymentRequested"}
    assert {each.metadata.correlation_id for each in events} == {correlation}
    assert {(each.metadata.tenant, each.metadata.user) for each in events} == {("t1", "ann")}
