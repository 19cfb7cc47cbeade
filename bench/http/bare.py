"""The floor: the same routes with the same validation, and nothing behind them."""

from __future__ import annotations

from bench.http.bodies import ORDER, Acknowledgement, CreateOrderBody, Id, OrderOut
from bench.http.contender import main
from fastapi import FastAPI, Response

SHOWN = {
    "order_id": "019a0c2e-5f1b-7c3a-9d44-0b6b5a1c7e21", "version": 1, "status": "new", "total_amount": "35.64",
    "item_count": 12, "created_at": "2026-11-26T00:00:00Z", **ORDER,
}  # fmt: skip


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
