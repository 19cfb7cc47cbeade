"""A process on real engines: its commands, its timers, its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.fulfilment import (
    CancelOrder,
    ItemsReserved,
    NoStockError,
    OrderCancelled,
    OrderPlaced,
    OrderShipped,
    PaymentReceived,
    PaymentRequested,
    ReserveItems,
    ShelfEmptied,
    build,
    events_of,
    running,
    until_events,
    until_status,
)
from tests.synchronizing import PATIENCE, until

from twofold import Application
from twofold.processes import Process, starts
from twofold.processes.steps import ProcessStep


async def test_what_is_placed_and_paid_is_reserved(url: str) -> None:
    async with running(url) as (app, shop):
        await app.store.append([OrderPlaced(order="a", total=7)])
        [requested] = await until_events(app, "a", PaymentRequested)
        assert requested == PaymentRequested(order="a", amount=7)
        await app.store.append([PaymentReceived(order="a")])
        await until_events(app, "a", PaymentRequested, ItemsReserved)
        instance = await until_status(app, "a", "running")
        assert (instance.version, instance.next_at, instance.failures) == (4, None, [])
        await app.store.append([OrderShipped(order="a")])
        await until_status(app, "a", "completed")
        assert len(shop.calls) == 2


async def test_a_timer_that_is_due_sends_what_follows(url: str) -> None:
    async with running(url) as (app, _):
        await app.store.append([OrderPlaced(order="a", deadline=0.3), OrderPlaced(order="b")])
        *_, cancelled = await until_events(app, "a", PaymentRequested, OrderCancelled)
        assert cancelled.reason == "not paid"
    async with running(url) as (app, _):
        pass


async def test_a_refusal_is_an_input(url: str) -> None:
    async with running(url) as (app, shop):
        shop.failing = lambda command: NoStockError("none left") if isinstance(command, ReserveItems) else None
        await app.store.append([OrderPlaced(order="a"), PaymentReceived(order="a")])
        *_, cancelled = await until_events(app, "a", PaymentRequested, OrderCancelled)
        assert cancelled.reason == "NoStockError: none left"


async def test_one_event_goes_to_several_processes(url: str) -> None:
    async with running(url) as (app, _):
        await app.store.append([OrderPlaced(order="a"), OrderPlaced(order="b")])
        await app.store.append([ShelfEmptied(orders=("a", "b", "never"))])
        for order in "ab":
            await until_events(app, order, PaymentRequested, OrderCancelled)
            await until_status(app, order, "completed")
        assert [each.id for each in await app.processes.control("fulfil_order").list()] == ["a", "b"]
        assert await app.projections.control("fulfil_order").parked() == []  # "never" is left out


async def test_several_processes_take_in_one_event_each_for_itself(url: str) -> None:
    """One of them fails, and the other one does not notice."""
    app, shop = build(url)
    app.processes.add(Audit())
    async with app:
        await app.store.append([OrderPlaced(order="a", total=7), OrderPlaced(order="b", total=-1)])
        await until(lambda: _are_there(app))
        await until_events(app, "b", PaymentRequested)
        await app.projections.wait(2, PATIENCE, ["audit", "fulfil_order"])
        [parked] = await app.projections.control("audit").parked()
        assert parked.cause == "ValueError: less than nothing"
        assert await app.projections.control("fulfil_order").parked() == []
        assert [each.id for each in await app.processes.control("audit").list()] == ["a"]
        assert len({each.command_id for each in shop.calls}) == len(shop.calls)


async def _are_there(app: Application) -> bool:
    """Return whether both have done what they do about the order, in whichever order they came to it."""
    return Counter(map(type, await events_of(app, "a"))) == Counter([PaymentRequested, OrderCancelled])


class Audit(Process[None]):
    """It cancels what costs seven."""

    name = "audit"

    @starts(OrderPlaced, key="order")
    def placed(self, state: None, event: OrderPlaced) -> Iterator[object]:
        if event.total < 0:
            raise ValueError("less than nothing")
        if event.total == 7:
            yield CancelOrder(order=event.order, reason="seven")

    def is_completed(self, state: None) -> bool:
        return False


async def test_what_comes_after_the_end_is_counted_and_takes_no_effect(url: str) -> None:
    async with running(url) as (app, shop):
        await app.store.append([OrderPlaced(order="a"), OrderShipped(order="a")])
        await until_status(app, "a", "completed")
        position = (await app.store.append([PaymentReceived(order="a"), PaymentReceived(order="a")])).position
        await app.projections.wait(position, PATIENCE, ["fulfil_order"])
        instance = await app.processes.control("fulfil_order").get("a")
        assert (instance.ignored, instance.next_at) == (2, None)
        assert len(shop.calls) == 1


async def test_the_state_is_folded_from_the_stream_alone(url: str) -> None:
    async with running(url) as (app, _):
        await app.store.append([OrderPlaced(order="a")])
        await until_status(app, "a", "running")
    async with running(url) as (app, _):  # nothing is remembered
        await app.store.append([ShelfEmptied(orders=("a",))])
        *_, cancelled = await until_events(app, "a", PaymentRequested, OrderCancelled)
        assert cancelled.order == "a"
        await until_status(app, "a", "completed")
        steps = [each.event async for each in app.store.read_stream("twofold.fulfil_order-a")]
        assert [type(each) for each in steps] == [ProcessStep] * 5
        kinds = sorted(type(each.input).__name__ for each in steps)
        assert kinds == ["CommandDone", "CommandDone", "EventReceived", "EventReceived", "EventReceived"]
