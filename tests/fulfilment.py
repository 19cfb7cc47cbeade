"""What tests of processes have in common: orders that are paid, reserved and shipped, or time out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated, Any

from tests.synchronizing import PATIENCE, until

from twofold import Application, Command, Event, EventStore, Tag
from twofold.options import Backoff, Options, ProcessOptions, SynchronizerOptions
from twofold.processes import Done, Process, Refusal, after, cancel, done, due, evolve, on, refused, starts


@dataclass(frozen=True, kw_only=True)
class OrderPlaced(Event):
    order: Annotated[str, Tag("order")]
    total: int = 10
    deadline: float = 3600.0


@dataclass(frozen=True, kw_only=True)
class PaymentReceived(Event):
    order: Annotated[str, Tag("order")]


@dataclass(frozen=True, kw_only=True)
class PaymentRequested(Event):
    order: str
    amount: int


@dataclass(frozen=True, kw_only=True)
class ItemsReserved(Event):
    order: str


@dataclass(frozen=True, kw_only=True)
class OrderCancelled(Event):
    order: Annotated[str, Tag("order")]
    reason: str


@dataclass(frozen=True, kw_only=True)
class OrderShipped(Event):
    order: Annotated[str, Tag("order")]


@dataclass(frozen=True, kw_only=True)
class ShelfEmptied(Event):
    """It concerns several orders."""

    orders: Annotated[tuple[str, ...], Tag("order")]


@dataclass(frozen=True, kw_only=True)
class RequestPayment(Command[str]):
    order: str
    amount: int


@dataclass(frozen=True, kw_only=True)
class ReserveItems(Command[None]):
    order: str


@dataclass(frozen=True, kw_only=True)
class CancelOrder(Command[None]):
    order: str
    reason: str


class NoStockError(Exception):
    """The shelf is empty."""


@dataclass(frozen=True)
class Fulfilment:
    order: str = ""
    paid: bool = False
    bill: str = ""
    ended: bool = False


class FulfilOrder(Process[Fulfilment]):
    name, initial = "fulfil_order", Fulfilment()

    @starts(OrderPlaced, key="order")
    def placed(self, state: Fulfilment, event: OrderPlaced) -> Iterator[object]:
        yield RequestPayment(order=event.order, amount=event.total)
        yield after(timedelta(seconds=event.deadline), "payment")

    @on(PaymentReceived, key="order")
    def paid(self, state: Fulfilment, event: PaymentReceived) -> Iterator[object]:
        yield cancel("payment")
        yield ReserveItems(order=event.order)

    @on(OrderShipped, OrderCancelled, key="order")
    def ended(self, state: Fulfilment, event: object) -> tuple[()]:
        return ()

    @on(ShelfEmptied, key="order", missing="ignore")
    def emptied(self, state: Fulfilment, event: ShelfEmptied) -> Iterator[object]:
        yield CancelOrder(order=state.order, reason="shelf emptied")

    @refused(ReserveItems)
    def no_stock(self, state: Fulfilment, refusal: Refusal[ReserveItems]) -> Iterator[object]:
        yield CancelOrder(order=state.order, reason=f"{refusal.error}: {refusal.reason}")

    @due("payment")
    def overdue(self, state: Fulfilment) -> Iterator[object]:
        yield CancelOrder(order=state.order, reason="not paid")

    @evolve(OrderPlaced)
    def was_placed(self, state: Fulfilment, event: OrderPlaced) -> Fulfilment:
        return replace(state, order=event.order)

    @evolve(PaymentReceived)
    def was_paid(self, state: Fulfilment, event: PaymentReceived) -> Fulfilment:
        return replace(state, paid=True)

    @evolve(done(RequestPayment))
    def was_billed(self, state: Fulfilment, outcome: Done[RequestPayment]) -> Fulfilment:
        return replace(state, bill=outcome.receipt.value)

    @evolve(OrderShipped, OrderCancelled)
    def has_ended(self, state: Fulfilment, event: object) -> Fulfilment:
        return replace(state, ended=True)

    def is_completed(self, state: Fulfilment) -> bool:
        return state.ended


class Shop:
    """Handlers for the commands; some of them fail as a test wants."""

    def __init__(self, store: EventStore) -> None:
        self.store = store
        self.calls: list[Any] = []
        self.failing: Callable[[object], BaseException | None] = lambda _: None
        self.waiting: dict[str, asyncio.Event] = {}

    async def request_payment(self, command: RequestPayment) -> str:
        await self._begin(command)
        await self._append(command.order, PaymentRequested(order=command.order, amount=command.amount))
        return f"bill of {command.order}"

    async def reserve(self, command: ReserveItems) -> None:
        await self._begin(command)
        await self._append(command.order, ItemsReserved(order=command.order))

    async def cancel(self, command: CancelOrder) -> None:
        await self._begin(command)
        await self._append(command.order, OrderCancelled(order=command.order, reason=command.reason))

    async def _begin(self, command: Any) -> None:
        self.calls.append(command)
        if command.order in self.waiting:
            await self.waiting[command.order].wait()
        if error := self.failing(command):
            raise error

    async def _append(self, order: str, event: object) -> None:
        from twofold import ANY

        await self.store.append_events(f"Order-{order}", "Order", [event], expected_version=ANY)


QUICK = Options(
    synchronizer=SynchronizerOptions(backoff=Backoff(first=0.001, last=0.01)),
    processes=ProcessOptions(backoff=Backoff(first=0.01, last=0.05), poll=0.05),
)


def build(
    url: str, process: Process[Any] | None = None, *, options: Options = QUICK, synchronize: bool = True
) -> tuple[Application, Shop]:
    """Return an application with the shop and a process, not yet started."""
    app = Application(url, options=options, synchronize=synchronize)
    shop = Shop(app.store)
    app.commands.register(RequestPayment, shop.request_payment)
    app.commands.register(ReserveItems, shop.reserve)
    app.commands.register(CancelOrder, shop.cancel)
    app.processes.add(process or FulfilOrder())
    app.store.events.register(ItemsReserved, PaymentRequested, OrderPlaced, OrderCancelled)
    return app, shop


@asynccontextmanager
async def running(
    url: str, process: Process[Any] | None = None, **more: Any
) -> AsyncIterator[tuple[Application, Shop]]:
    """Run an application with the shop and a process for as long as the block lasts."""
    app, shop = build(url, process, **more)
    async with app:
        yield app, shop


async def events_of(app: Application, order: str) -> list[Any]:
    """Return what has happened to an order."""
    return [each.event async for each in app.store.read_stream(f"Order-{order}")]


async def until_events(app: Application, order: str, *types: type) -> list[Any]:
    """Wait until exactly these events have happened to an order."""

    async def have() -> bool:
        return [type(each) for each in await events_of(app, order)] == list(types)

    try:
        await until(have, PATIENCE)
    except TimeoutError:
        raise AssertionError(f"{await events_of(app, order)} {await app.processes.status()}") from None
    return await events_of(app, order)


async def until_status(app: Application, order: str, status: str) -> Any:
    """Wait until an instance is where it shall be, and has nothing left to do."""
    control = app.processes.control("fulfil_order")

    async def is_there() -> bool:
        found = [each for each in await control.list() if each.id == order]
        return bool(found) and found[0].status == status and not found[0].waiting

    try:
        await until(is_there, PATIENCE)
    except TimeoutError:
        raise AssertionError(f"{await control.list()} {await app.processes.status()}") from None
    return await control.get(order)
