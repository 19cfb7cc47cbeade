"""What a process cannot store is held up alone, and the application's streams never are those of its instances."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from tests.fulfilment import (
    CancelOrder,
    OrderCancelled,
    OrderPlaced,
    PaymentRequested,
    RequestPayment,
    running,
    until_events,
)
from tests.processes.clocks import clock_of
from tests.synchronizing import PATIENCE, until

from twofold import ANY, Application, Event, event_type
from twofold.errors import InvalidEventError, InvalidMessageTypeError
from twofold.log.codec.payload import MAX_PAYLOAD
from twofold.log.codec.stored_names import MAX_NAME
from twofold.processes import Process, after, due, starts
from twofold.processes.steps import stream_of


class Wordy(Process[None]):
    """It asks for a payment under a name that may be too long to be stored with the input."""

    name = "fulfil_order"

    @starts(OrderPlaced, key="order")
    def placed(self, state: None, event: OrderPlaced) -> Iterator[object]:
        first = RequestPayment(order=event.order, amount=1)
        yield first
        if event.total > 10:
            yield replace(first, order="x" * MAX_PAYLOAD)

    def is_completed(self, state: None) -> bool:
        return False


@pytest.mark.parametrize(
    ("event", "cause"),
    [
        (OrderPlaced(order="a" * (MAX_NAME - 10)), "LimitExceededError: a stream id has 1 to 500 characters"),
        (OrderPlaced(order=""), "InvalidProcessError: the key of <class 'tests.fulfilment.OrderPlaced'> gave an empty"),
        (OrderPlaced(order="a", total=11), "LimitExceededError: "),
    ],
    ids=["id too long", "id empty", "step too large"],
)
async def test_an_input_that_cannot_be_stored_is_parked_and_holds_up_no_other_instance(
    url: str, event: OrderPlaced, cause: str
) -> None:
    async with running(url, Wordy()) as (app, _):
        receipt = await app.store.append([event, OrderPlaced(order="b")])
        await app.projections.wait(receipt, PATIENCE, ["fulfil_order"])
        [parked] = await app.projections.control("fulfil_order").parked()
        assert parked.cause.startswith(cause)
        await until_events(app, "b", PaymentRequested)


def number_of(event: OrderPlaced) -> int:
    return int(event.order)


class ByNumber(Process[None]):
    """It finds its instances with code that cannot handle every event."""

    name = "fulfil_order"

    @starts(OrderPlaced, key=number_of)
    def placed(self, state: None, event: OrderPlaced) -> Iterator[object]:
        yield RequestPayment(order=event.order, amount=1)
        yield after(timedelta(hours=1), "payment")

    @due("payment")
    def overdue(self, state: None) -> Iterator[object]:
        yield CancelOrder(order="1", reason="not paid")

    def is_completed(self, state: None) -> bool:
        return False


async def test_an_event_whose_instance_cannot_be_found_stops_the_feed_by_name_until_it_is_skipped(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be about any instance: to go on with the others could take their events in out of order."""
    move_clock = clock_of(url, monkeypatch)
    async with running(url, ByNumber()) as (app, _):
        receipt = await app.store.append([OrderPlaced(order="1"), OrderPlaced(order="two"), OrderPlaced(order="3")])
        error = "projection fulfil_order failed on event 2 (OrderPlaced): ValueError: invalid literal for int() with"

        async def stands_still() -> bool:
            [status] = await app.processes.status()
            return any(each.startswith(f"stands still: {error}") for each in status.problems)

        await until(stands_still)
        await until_events(app, "1", PaymentRequested)
        await move_clock(timedelta(days=1))  # timers fire, and their commands are carried out, while the feed stands
        await until_events(app, "1", PaymentRequested, OrderCancelled)
        assert await stands_still()
        assert [each.id for each in await app.processes.control("fulfil_order").list()] == ["1"]
        assert not await app.projections.control("fulfil_order").parked()
        await app.projections.control("fulfil_order").skip(2, reason="an order without a number")
        await app.projections.wait(receipt, PATIENCE, ["fulfil_order"])
        await until_events(app, "3", PaymentRequested)
        assert {each.id for each in await app.processes.control("fulfil_order").list()} == {"1", "3"}


@dataclass(frozen=True)
class Noted(Event):
    text: str


@event_type("twofold.Noted")
@dataclass(frozen=True)
class Posing(Event):
    text: str


STREAM = stream_of("fulfil_order", "a")


@pytest.mark.parametrize(("stream", "kind"), [(STREAM, "Order"), ("Order-a", "twofold.fulfil_order")])
async def test_an_application_cannot_append_to_the_streams_of_instances(url: str, stream: str, kind: str) -> None:
    async with Application(url) as app:
        with pytest.raises(InvalidEventError, match=r"begin with 'twofold\.' are those of processes; choose another"):
            await app.store.append_events(stream, kind, [Noted("x")], expected_version=ANY)
        transaction: Any
        with pytest.raises(InvalidEventError, match="those of processes"):
            async with app.store.transaction() as transaction:
                transaction.append_events(stream, kind, [Noted("x")], expected_version=ANY)
        await app.store.append_events("fulfil_order-a", "fulfil_order", [Noted("x")], expected_version=0)


async def test_an_application_cannot_store_events_under_the_names_of_twofold(url: str) -> None:
    async with Application(url) as app:
        with pytest.raises(InvalidMessageTypeError, match=r"'twofold\.Noted': names that begin with 'twofold\.' are"):
            await app.store.append([Posing("x")])


async def test_a_stream_of_the_users_that_is_named_after_an_instance_does_not_disturb_it(url: str) -> None:
    async with running(url) as (app, _):
        await app.store.append_events("fulfil_order-a", "fulfil_order", [Noted("x")], expected_version=0)
        await app.store.append([OrderPlaced(order="a")])
        await until_events(app, "a", PaymentRequested)
