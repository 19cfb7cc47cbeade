"""The rules of orders: given what happened, when something is asked for, then this happens, or that rule is broken."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from tests.orders.samples import (
    CUP,
    HOME,
    LATER,
    NOON,
    TEA,
    added,
    cancelled,
    created,
    given,
    owed,
    paid,
    refunded,
    removed,
    returned,
    shipped,
)

from orders.errors import (
    AmountNotPositiveError,
    ItemNotInOrderError,
    LastItemError,
    NoCustomerError,
    NoItemsError,
    NoReasonError,
    NothingToReturnError,
    OrderError,
    OrderIsCancelledError,
    OrderIsPaidError,
    OrderIsShippedError,
    PriceNotPositiveError,
    QuantityNotPositiveError,
)
from orders.items import OrderItem
from orders.order import Order


def create(*items: OrderItem, customer_id: str = "ada") -> Order:
    return Order.create("o1", customer_id=customer_id, items=items, shipping_address=HOME, at=NOON)


def then(order: Order) -> tuple[object, ...]:
    return tuple(order.uncommitted_events)


def test_an_order_is_created_with_its_items_and_its_own_date() -> None:
    assert then(create(TEA, CUP)) == (created(TEA, CUP),)


def test_prices_are_kept_as_money() -> None:
    (event,) = then(create(replace(TEA, price=Decimal("5"))))
    assert str(event.items[0].price) == "5.00"  # type: ignore[attr-defined]


def test_fractions_of_a_cent_are_kept() -> None:
    (event,) = then(create(replace(TEA, price=Decimal("0.001"))))
    assert str(event.items[0].price) == "0.001"  # type: ignore[attr-defined]


def test_an_order_needs_a_customer() -> None:
    with pytest.raises(NoCustomerError) as caught:
        create(TEA, customer_id="")
    assert caught.value.field == "customer_id"


def test_an_order_needs_an_item() -> None:
    with pytest.raises(NoItemsError) as caught:
        create()
    assert caught.value.field == "items"


@pytest.mark.parametrize("quantity", [0, -1])
def test_a_quantity_is_positive_and_the_error_says_which_is_not(quantity: int) -> None:
    with pytest.raises(QuantityNotPositiveError) as caught:
        create(TEA, replace(CUP, quantity=quantity))
    assert (caught.value.field, caught.value.place) == ("items[1].quantity", 1)


@pytest.mark.parametrize("price", ["0", "-0.01", "NaN", "Infinity", "-Infinity", "sNaN"])
def test_a_price_is_positive_and_the_error_says_which_is_not(price: str) -> None:
    with pytest.raises(PriceNotPositiveError) as caught:
        create(TEA, replace(CUP, price=Decimal(price)))
    assert caught.value.field == "items[1].price"


def test_an_item_is_added() -> None:
    order = given(created(TEA))
    order.add_item(CUP, LATER)
    assert then(order) == (added(CUP),)


def test_an_added_item_obeys_the_rules_too() -> None:
    with pytest.raises(QuantityNotPositiveError) as caught:
        given(created(TEA)).add_item(replace(CUP, quantity=0), LATER)
    assert caught.value.field == "quantity"


def test_more_of_the_same_at_the_same_price_is_one_line() -> None:
    order = given(created(TEA), added(replace(TEA, quantity=3)))
    assert order.items == (replace(TEA, quantity=5),)


def test_the_same_at_another_price_is_a_line_of_its_own() -> None:
    cheaper = replace(TEA, price=Decimal("9.90"))
    assert given(created(TEA), added(cheaper)).items == (TEA, cheaper)


def test_a_product_is_removed_with_all_its_lines() -> None:
    cheaper = replace(TEA, price=Decimal("9.90"))
    order = given(created(TEA, CUP), added(cheaper))
    order.remove_item("tea", LATER)
    assert then(order) == (removed(TEA, cheaper),)
    assert order.items == (CUP,)


def test_the_last_item_cannot_be_removed() -> None:
    with pytest.raises(LastItemError):
        given(created(TEA, CUP), removed(CUP)).remove_item("tea", LATER)


def test_what_is_not_in_the_order_cannot_be_removed() -> None:
    with pytest.raises(ItemNotInOrderError):
        given(created(TEA, CUP)).remove_item("pot", LATER)


def test_an_order_is_shipped() -> None:
    order = given(created())
    order.ship(LATER)
    assert then(order) == (shipped(),)


def test_an_order_is_cancelled_with_a_reason() -> None:
    order = given(created())
    order.cancel("mistake", LATER)
    assert then(order) == (cancelled(),)


def test_a_cancellation_needs_a_reason() -> None:
    with pytest.raises(NoReasonError) as caught:
        given(created()).cancel("", LATER)
    assert caught.value.field == "reason"


@pytest.mark.parametrize(("end", "error"), [(shipped(), OrderIsShippedError), (cancelled(), OrderIsCancelledError)])
def test_a_shipped_or_cancelled_order_changes_no_more(end: object, error: type[OrderError]) -> None:
    order = given(created(TEA, CUP), end)
    with pytest.raises(error):
        order.add_item(CUP, LATER)
    with pytest.raises(error):
        order.remove_item("cup", LATER)
    with pytest.raises(error):
        order.ship(LATER)
    with pytest.raises(error):
        order.cancel("mistake", LATER)
    assert then(order) == ()


def test_an_order_is_paid_once_however_often_it_is_told() -> None:
    order = given(created())
    order.take_payment("p1", Decimal("25.8"), LATER)
    order.take_payment("p1", Decimal("25.80"), LATER)
    assert then(order) == (paid(),)


def test_a_paid_order_keeps_its_items_and_can_still_be_shipped() -> None:
    order = given(created(TEA, CUP), paid())
    with pytest.raises(OrderIsPaidError):
        order.add_item(CUP, LATER)
    with pytest.raises(OrderIsPaidError):
        order.remove_item("cup", LATER)
    order.ship(LATER)
    assert then(order) == (shipped(),)


@pytest.mark.parametrize(
    ("history", "amount", "reason"),
    [
        ((), "1", "the order costs 25.80"),
        ((paid("p0"),), "25.80", "the order is paid already"),
        ((shipped(),), "25.80", "the order is shipped already"),
        ((cancelled(),), "25.80", "the order is cancelled already"),
    ],
)
def test_a_payment_of_no_use_is_owed_back(history: tuple[object, ...], amount: str, reason: str) -> None:
    order = given(created(), *history)
    order.take_payment("p1", Decimal(amount), LATER)
    order.take_payment("p1", Decimal(amount), LATER)
    assert then(order) == (owed(reason, amount=f"{Decimal(amount):.2f}"),)


def test_a_cancelled_order_owes_back_what_was_paid_for_it() -> None:
    order = given(created(), paid())
    order.cancel("mistake", LATER)
    assert then(order) == (cancelled(), owed("mistake"))


def test_a_refund_is_noted_once_and_only_if_it_is_owed() -> None:
    order = given(created(), paid(), cancelled(), owed("mistake"))
    for payment in ("p1", "p1", "other"):
        order.note_refund(payment, LATER)
    assert then(order) == (refunded(),)


def test_a_refunded_payment_that_is_told_again_is_known() -> None:
    order = given(created(), paid(), cancelled(), owed("mistake"), refunded())
    order.take_payment("p1", Decimal("25.80"), LATER)
    assert then(order) == ()


@pytest.mark.parametrize("amount", ["0", "-1", "NaN", "Infinity"])
def test_a_payment_is_more_than_nothing(amount: str) -> None:
    with pytest.raises(AmountNotPositiveError):
        given(created()).take_payment("p1", Decimal(amount), LATER)


@pytest.mark.parametrize(("history", "reminders"), [((), 1), ((paid(),), 0), ((cancelled(),), 0)])
def test_only_who_still_has_to_pay_is_reminded(history: tuple[object, ...], reminders: int) -> None:
    order = given(created(), *history)
    order.remind(LATER)
    assert len(then(order)) == reminders


def test_shipped_goods_are_taken_back() -> None:
    order = given(created(TEA), shipped())
    order.take_back(replace(TEA, quantity=1), LATER)
    assert then(order) == (returned(TEA, 1),)


def test_no_more_comes_back_than_was_shipped() -> None:
    order = given(created(TEA), shipped(), returned(TEA, 1))
    with pytest.raises(NothingToReturnError):
        order.take_back(TEA, LATER)


def test_goods_come_back_at_the_price_that_was_paid() -> None:
    with pytest.raises(NothingToReturnError):
        given(created(TEA), shipped()).take_back(OrderItem("tea", 1, Decimal("99")), LATER)


def test_what_was_not_shipped_does_not_come_back() -> None:
    with pytest.raises(NothingToReturnError):
        given(created(TEA)).take_back(TEA, LATER)


def test_every_rule_is_an_error_of_the_domain() -> None:
    rules = [NoCustomerError(), NoItemsError(), NoReasonError(), LastItemError("o1"), QuantityNotPositiveError(TEA)]
    assert all(isinstance(rule, OrderError) for rule in rules)
