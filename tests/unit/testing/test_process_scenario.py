"""Scenarios for processes: virtual time, outcomes, and what they say when it is another."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.fulfilment import (
    CancelOrder,
    Fulfilment,
    FulfilOrder,
    NoStockError,
    OrderPlaced,
    OrderShipped,
    PaymentReceived,
    RequestPayment,
    ReserveItems,
    ShelfEmptied,
)

from twofold.errors import InvalidProcessError, ProcessNotStartedError
from twofold.testing import scenario

given = scenario(FulfilOrder())
PLACED, PAID = OrderPlaced(order="a", deadline=60), PaymentReceived(order="a")


def test_an_event_sends_commands() -> None:
    given().when(PLACED).then_sends(RequestPayment(order="a", amount=10)).then_timers(payment=timedelta(minutes=1))
    given(PLACED).when(PAID).then_sends(ReserveItems(order="a")).then_timers()


def test_time_passes_at_once() -> None:
    waiting = given(PLACED)
    waiting.when_time_passes(seconds=59).then_sends().then_timers(payment=timedelta(seconds=1))
    waiting.when_time_passes(seconds=1).then_sends(CancelOrder(order="a", reason="not paid")).then_timers()
    given(PLACED, PAID).when_time_passes(timedelta(days=3)).then_sends()


def test_outcomes_are_inputs() -> None:
    given(PLACED).when_done(RequestPayment, "bill 7").then_state(Fulfilment(order="a", bill="bill 7"))
    refused = given(PLACED, PAID).when_refused(ReserveItems, NoStockError("none left"))
    refused.then_sends(CancelOrder(order="a", reason="NoStockError: none left")).then_running()


def test_the_end_is_in_one_place() -> None:
    given(PLACED).then_running()
    ended = given(PLACED).when(OrderShipped(order="a")).then_completed().then_timers()
    ended.when(PAID).then_sends().when_time_passes(days=9).then_sends()


def test_several_instances_take_one_event() -> None:
    two = given(PLACED, OrderPlaced(order="b")).when(ShelfEmptied(orders=("a", "b", "unknown")))
    two.then_sends(CancelOrder(order="a", reason="shelf emptied"), CancelOrder(order="b", reason="shelf emptied"))
    two.then_state(Fulfilment(order="b"), "b")


def test_what_never_started_is_refused() -> None:
    with pytest.raises(ProcessNotStartedError, match=r'PaymentReceived is about fulfil_order .a., .*missing="ignore"'):
        given().when(PAID)


def test_a_refusal_without_a_handler_is_refused() -> None:
    with pytest.raises(InvalidProcessError, match=r"no method for that; write one: @refused\(RequestPayment\)"):
        given(PLACED).when_refused(RequestPayment, NoStockError("no"))


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        (lambda: given(PLACED).when(PAID).then_sends(), "other commands than expected"),
        (lambda: given(PLACED).then_timers(), "expected the timers"),
        (lambda: given(PLACED).then_completed(), "to be completed"),
        (lambda: given(PLACED, OrderShipped(order="a")).then_running(), "to go on"),
        (lambda: given(PLACED).then_state(Fulfilment()), "another state than expected"),
        (lambda: given(PLACED).then_state(Fulfilment(), "b"), "has no instance 'b'"),
        (lambda: given(PLACED).when_done(ReserveItems), "has sent no ReserveItems"),
    ],
)
def test_a_claim_that_does_not_hold_says_so(claim: object, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        claim()  # type: ignore[operator]
