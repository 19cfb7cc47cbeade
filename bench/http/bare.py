"""The floor: the same routes with the same validation, and nothing behind them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from bench.http.bodies import NEW, ORDER, Acknowledgement, CreateOrderBody, Id, OrderOut
from bench.http.contender import main
from fastapi import FastAPI, Response

SHOWN = {
    **NEW,
    "order_id": "019a0c2e-5f1b-7c3a-9d44-0b6b5a1c7e21",
    "customer_id": ORDER["customer_id"],
    "total_amount": Decimal("35.64"),
    "item_count": 2,
    "created_at": datetime(2026, 11, 26, tzinfo=UTC),
    "items": [{**item, "price": Decimal(item["price"])} for item in ORDER["items"]],
    "shipping_address": ORDER["shipping_address"],
}


def make() -> FastAPI:
    """Return the API."""
    api = FastAPI()

    @api.post("/orders", status_code=201)
    async def create_order(body: CreateOrderBody, response: Response) -> Acknowledgement:
        response.headers["Location"] = "/orders/" + str(SHOWN["order_id"])
        return Acknowledgement(order_id=str(SHOWN["order_id"]), version=len(body.items))

    @api.get("/orders/{order_id}", response_model=OrderOut)
    async def get_order(order_id: Id, response: Response) -> object:
        response.headers["ETag"] = '"1"'
        return SHOWN

    return api


if __name__ == "__main__":
    main("bench.http.bare:make")
