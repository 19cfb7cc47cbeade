"""CRUD as SQLAlchemy's documentation advises: asyncio, one session per request, rows that are changed in place."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

from sqlalchemy import ForeignKey, Numeric, String, event
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

from bench.http.bodies import NEW, Acknowledgement, CreateOrderBody, Id, OrderOut, OrderStatus
from bench.http.contender import main
from fastapi import Depends, FastAPI, HTTPException, Response


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    order_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    customer_id: Mapped[str] = mapped_column(index=True)
    status: Mapped[OrderStatus] = mapped_column(String, index=True)
    total_amount: Mapped[Decimal] = mapped_column(Numeric(14, 4))
    item_count: Mapped[int]
    created_at: Mapped[datetime]
    shipped_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]
    cancellation_reason: Mapped[str | None]
    returned_amount: Mapped[Decimal] = mapped_column(Numeric(14, 4))
    paid_amount: Mapped[Decimal] = mapped_column(Numeric(14, 4))
    owed_amount: Mapped[Decimal] = mapped_column(Numeric(14, 4))
    refunded_amount: Mapped[Decimal] = mapped_column(Numeric(14, 4))
    reminded_at: Mapped[datetime | None]
    street: Mapped[str]
    city: Mapped[str]
    postal_code: Mapped[str]
    country: Mapped[str]
    items: Mapped[list[Item]] = relationship(order_by="Item.number")


class Item(Base):
    __tablename__ = "items"

    order_id: Mapped[str] = mapped_column(ForeignKey("orders.order_id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[str]
    quantity: Mapped[int]
    price: Mapped[Decimal] = mapped_column(Numeric(12, 4))
    description: Mapped[str]


def make() -> FastAPI:
    """Return the API."""
    engine = create_async_engine(_address(os.environ["PLACE"]))
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _durable)
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield
        await engine.dispose()

    async def session() -> AsyncIterator[AsyncSession]:
        async with sessions() as opened:
            yield opened

    api = FastAPI(lifespan=lifespan)

    @api.post("/orders", status_code=201)
    async def create_order(
        body: CreateOrderBody,
        response: Response,
        db: AsyncSession = Depends(session),  # noqa: B008
    ) -> Acknowledgement:
        order = _order(body)
        db.add(order)
        await db.commit()
        response.headers["Location"] = f"/orders/{order.order_id}"
        return Acknowledgement(order_id=order.order_id, version=order.version)

    @api.get("/orders/{order_id}", response_model=OrderOut)
    async def get_order(order_id: Id, response: Response, db: AsyncSession = Depends(session)) -> Any:  # noqa: B008
        order = await db.get(Order, order_id, options=[selectinload(Order.items)])
        if order is None:
            raise HTTPException(404)
        response.headers["ETag"] = f'"{order.version}"'
        shown = {name: getattr(order, name) for name in OrderOut.model_fields if name != "shipping_address"}
        return {**shown, "shipping_address": order}

    return api


def _order(body: CreateOrderBody) -> Order:
    return Order(
        **NEW, order_id=str(uuid4()), customer_id=body.customer_id,
        total_amount=sum((item.quantity * item.price for item in body.items), Decimal()),
        item_count=len(body.items), created_at=datetime.now(UTC).replace(tzinfo=None),
        **body.shipping_address.model_dump(),
        items=[Item(number=number, **item.model_dump()) for number, item in enumerate(body.items)],
    )  # fmt: skip


def _address(place: str) -> str:
    if place.startswith("postgres"):
        return "postgresql+psycopg" + place[place.index("://") :]
    return f"sqlite+aiosqlite:///{place}"


def _durable(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


if __name__ == "__main__":
    main("bench.http.sqlalchemy_peer:make")
