"""Orders with the library `eventsourcing` behind FastAPI, as its documentation advises: plain functions in threads."""

from __future__ import annotations

import os
from decimal import Decimal
from typing import Any
from uuid import UUID

from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import Aggregate

from bench.http.bodies import NEW, Acknowledgement, CreateOrderBody, OrderOut
from bench.http.contender import main
from bench.workers.eventsourcing_peer import environment_of, synchronise_fully
from fastapi import FastAPI, HTTPException, Response


class Order(Aggregate):  # type: ignore[misc]  # comes from the peers' environment
    def __init__(self, customer_id: str, items: list[Any], shipping_address: dict[str, str]) -> None:
        self.customer_id = customer_id
        self.items = items
        self.shipping_address = shipping_address


def make() -> FastAPI:
    """Return the API."""
    synchronise_fully()
    orders: Application[UUID] = Application(env=environment_of(os.environ["PLACE"]))
    api = FastAPI()

    @api.post("/orders", status_code=201)
    def create_order(body: CreateOrderBody, response: Response) -> Acknowledgement:
        items = [item.model_dump(mode="json") for item in body.items]
        order = Order(body.customer_id, items, body.shipping_address.model_dump())
        orders.save(order)
        response.headers["Location"] = f"/orders/{order.id}"
        return Acknowledgement(order_id=str(order.id), version=order.version)

    @api.get("/orders/{order_id}", response_model=OrderOut)
    def get_order(order_id: UUID, response: Response) -> Any:
        try:
            order: Order = orders.repository.get(order_id)
        except AggregateNotFoundError:
            raise HTTPException(404) from None
        response.headers["ETag"] = f'"{order.version}"'
        return {
            **NEW, "order_id": str(order.id), "version": order.version, "customer_id": order.customer_id,
            "total_amount": sum((item["quantity"] * Decimal(item["price"]) for item in order.items), Decimal()),
            "item_count": len(order.items), "created_at": order.created_on,
            "items": order.items, "shipping_address": order.shipping_address,
        }  # fmt: skip

    return api


if __name__ == "__main__":
    main("bench.http.eventsourcing_peer:make")
