"""An application that an agent looks at: a projection that fails, a process that waits, a name that is personal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated

from tests.synchronizing import quick

from twofold import (
    Aggregate,
    Application,
    Command,
    Event,
    Key,
    Options,
    Personal,
    Projection,
    Query,
    Subject,
    Tag,
    on,
)
from twofold.processes import Process, after, due, starts

print("this line of a module must not get between the messages of the protocol")

MASTER_KEY = b"0" * 32


@dataclass(frozen=True, kw_only=True)
class Ordered(Event):
    order: Annotated[str, Tag("order")]
    customer: Annotated[str, Subject()]
    name: Annotated[str, Personal()]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Paid(Event):
    order: Annotated[str, Tag("order")]
    amount: int


@dataclass(frozen=True, kw_only=True)
class PlaceOrder(Command[None]):
    order: str
    name: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Pay(Command[None]):
    order: str
    amount: int


@dataclass(frozen=True, kw_only=True)
class Forgotten(Query[None]):
    """A query that has no handler, which `check` finds."""


class Order(Aggregate):
    paid = 0

    @on(Ordered)
    def _ordered(self, event: Ordered) -> None:
        self.name = event.name

    @on(Paid)
    def _paid(self, event: Paid) -> None:
        self.paid += event.amount


@dataclass(frozen=True)
class Sum:
    order: Annotated[str, Key()]
    paid: int = 0


class Sums(Projection[Sum]):
    name = "sums"

    @on(Ordered)
    def ordered(self, event: Ordered) -> Sum:
        return Sum(event.order)

    @on(Paid)
    def paid(self, row: Sum, event: Paid) -> Sum:
        if event.amount == 13:
            raise ArithmeticError("unlucky")
        return replace(row, paid=row.paid + event.amount)


class Remind(Process[None]):
    name = "remind"

    @starts(Ordered, key="order")
    def ordered(self, state: None, event: Ordered) -> Iterator[object]:
        yield after(timedelta(days=7), "late")

    @due("late")
    def late(self, state: None) -> Iterator[object]:
        yield Pay(order="none", amount=0)

    def is_completed(self, state: None) -> bool:
        return False


def build(url: str, *, tenants: bool = False) -> Application:
    app = Application(
        url, keys_url=os.environ["SHOP_KEYS"], master_key=MASTER_KEY, tenants=tenants,
        options=Options(synchronizer=quick(retries=0)),
    )  # fmt: skip
    orders = app.repository(Order)

    async def place(command: PlaceOrder) -> None:
        order = Order(command.order)
        order.record(Ordered(order=command.order, customer="c1", name=command.name, note=command.note))
        await orders.save(order)

    async def pay(command: Pay) -> None:
        order = await orders.load(command.order)
        order.record(Paid(order=command.order, amount=command.amount))
        await orders.save(order)

    app.commands.register(PlaceOrder, place)
    app.commands.register(Pay, pay)
    app.projections.add(Sums())
    app.processes.add(Remind())
    return app


def build_for_tenants(url: str) -> Application:
    return build(url, tenants=True)
