"""From the order to the parcel, in no time, and once for real."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from tests.orders.samples import CUP, HOME, TEA, added, cancelled, created, removed, shipped
from tests.synchronizing import until

from orders.app import build
from orders.commands import CancelOrder, CreateOrder, ShipOrder
from orders.errors import OrderIsShippedError
from orders.fulfilment import (
    PATIENCE,
    FulfilOrder,
    OutOfStockError,
    PaymentReceived,
    RefundPayment,
    ReserveStock,
    StockDelivered,
    StockReserved,
    add_fulfilment,
)
from orders.order import Order, OrderStatus
from twofold.testing import scenario

given = scenario(FulfilOrder())
PAID = PaymentReceived(order_id="o1")
RESERVED = StockReserved(order_id="o1", product_ids=("tea",), quantities=(2,))


def test_a_paid_order_is_reserved_shipped_and_at_its_end() -> None:
    order = given(created()).then_timers(payment=PATIENCE)
    order.when(PAID).then_sends(ReserveStock(order_id="o1", items=(TEA,))).then_timers()
    order.when(RESERVED).then_sends(ShipOrder(order_id="o1"))
    order.when(shipped()).then_sends().then_completed()


def test_what_changed_before_the_payment_counts() -> None:
    given(created(), added(CUP), removed(TEA)).when(PAID).then_sends(ReserveStock(order_id="o1", items=(CUP,)))


def test_an_unpaid_order_is_cancelled_after_three_days() -> None:
    order = given(created()).when_time_passes(days=2, hours=23).then_sends()
    order.when_time_passes(hours=1).then_sends(CancelOrder(order_id="o1", reason="not paid"))
    order.when(cancelled()).then_completed()


def test_what_is_out_of_stock_is_refunded_and_cancelled() -> None:
    given(created(), PAID).when_refused(ReserveStock, OutOfStockError("tea")).then_sends(
        RefundPayment(order_id="o1", amount=Decimal("25.80")),
        CancelOrder(order_id="o1", reason="too few pieces of tea are in stock"),
    )


def test_what_was_done_by_hand_ends_it() -> None:
    given(created()).when(shipped()).then_completed().when_time_passes(timedelta(days=9)).then_sends()
    late = given(created()).when_time_passes(days=3)
    late.when_refused(CancelOrder, OrderIsShippedError("o1")).then_sends().then_running()


async def test_of_two_paid_orders_one_gets_the_last_pieces(url: str) -> None:
    app = build(url)
    add_fulfilment(app)
    async with app:
        await app.store.append([StockDelivered(product_id="tea", quantity=3)])
        for order_id in ("o1", "o2"):
            await app.commands.dispatch(
                CreateOrder(order_id=order_id, customer_id="ada", items=(TEA,), shipping_address=HOME)
            )
        await app.store.append([PaymentReceived(order_id="o1"), PaymentReceived(order_id="o2")])
        control = app.processes.control("fulfil_order")

        async def both_are_at_their_end() -> bool:
            return (await control.counts()).completed == 2

        await until(both_are_at_their_end)
        orders = [await app.repository(Order).load(order_id) for order_id in ("o1", "o2")]
        assert sorted(each.status for each in orders) == sorted([OrderStatus.SHIPPED, OrderStatus.CANCELLED])
