"""From the order to the parcel: each way that it can go, in no time, and for real."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from tests.orders.samples import CUP, HOME, TEA, added, cancelled, created, owed, paid, removed, shipped
from tests.synchronizing import PATIENCE, until

from orders.app import Shop, build
from orders.commands import CancelOrder, CreateOrder, ShipOrder, TakePayment
from orders.errors import OrderIsCancelledError, OrderIsShippedError
from orders.fulfilment import PATIENCE as FOR_PAYMENT
from orders.fulfilment import Fulfilling, FulfilOrder, SendParcel
from orders.items import Address, OrderItem
from orders.order import OrderStatus
from orders.partners import Bank, Carrier, Manners, Partners, RefundRefusedError, UndeliverableError
from orders.queries import GetOrderById
from orders.refunds import PAUSE, RefundPayment, ReturnPayment
from orders.stock import DeliverStock, GetStock, OutOfStockError, ReleaseStock, ReserveStock, StockItem
from orders.views import OrderView
from twofold.options import Backoff, Options, ProcessOptions
from twofold.testing import scenario

given = scenario(FulfilOrder())
PAID, OWED = paid(), owed("mistake")
REFUND = RefundPayment(order_id="o1", payment_id="p1", amount=Decimal("25.80"))


def test_a_paid_order_is_reserved_sent_and_at_its_end() -> None:
    order = given(created()).then_timers(payment=FOR_PAYMENT)
    order.when(PAID).then_sends(ReserveStock(order_id="o1", items=(TEA,))).then_timers()
    order.when_done(ReserveStock).then_sends(SendParcel(order_id="o1", address=HOME))
    order.when(shipped()).then_sends().then_completed()


def test_what_changed_before_the_payment_counts() -> None:
    given(created(), added(CUP), removed(TEA)).when(PAID).then_sends(ReserveStock(order_id="o1", items=(CUP,)))


def test_an_unpaid_order_is_cancelled_after_three_days() -> None:
    order = given(created()).when_time_passes(days=2, hours=23).then_sends()
    order.when_time_passes(hours=1).then_sends(CancelOrder(order_id="o1", reason="not paid"))
    order.when(cancelled()).then_sends().then_completed()


def test_what_is_out_of_stock_is_cancelled() -> None:
    order = given(created(), PAID).when_refused(ReserveStock, OutOfStockError("tea"))
    order.then_sends(CancelOrder(order_id="o1", reason="too few pieces of tea are in stock"))
    order.when(cancelled()).then_sends().then_completed()


def test_what_cannot_be_sent_is_cancelled_and_its_goods_are_released() -> None:
    order = given(created(), PAID).when_done(ReserveStock).when_refused(SendParcel, UndeliverableError(HOME))
    order.then_sends(CancelOrder(order_id="o1", reason="no carrier goes to UK"))
    order.when(cancelled()).then_sends(ReleaseStock(order_id="o1")).then_running()
    order.when_done(ReleaseStock).then_completed()


def test_goods_that_are_reserved_after_the_order_was_given_up_are_released() -> None:
    order = given(created(), PAID).when(cancelled()).then_sends().then_running()
    order.when_done(ReserveStock).then_sends(ReleaseStock(order_id="o1")).when_done(ReleaseStock).then_completed()


def test_what_was_done_by_hand_ends_it() -> None:
    given(created()).when(shipped()).then_completed().when_time_passes(timedelta(days=9)).then_sends()
    late = given(created()).when_time_passes(days=3)
    late.when_refused(CancelOrder, OrderIsShippedError("o1")).then_sends().then_running()


def test_a_parcel_that_was_cancelled_at_the_same_time_releases_its_goods_once() -> None:
    order = given(created(), PAID).when_done(ReserveStock).when(cancelled()).then_sends(ReleaseStock(order_id="o1"))
    order.when_refused(SendParcel, OrderIsCancelledError("o1"))
    order.when_refused(CancelOrder, OrderIsCancelledError("o1")).then_sends().then_running()
    order.when_done(ReleaseStock).then_completed()


def test_a_refund_that_the_bank_refuses_is_asked_for_again_each_day() -> None:
    refund = scenario(ReturnPayment())(OWED).then_sends(REFUND)
    for _ in range(3):
        refund.when_refused(RefundPayment, RefundRefusedError("not now")).then_sends().then_timers(again=PAUSE)
        refund.when_time_passes(PAUSE).then_sends(REFUND)
    refund.when_done(RefundPayment).then_completed()


QUICK = Options(processes=ProcessOptions(backoff=Backoff(first=0.01, last=0.05), poll=0.05))


class Orders:
    """A shop that is seen through to its end, with few pieces of tea in stock."""

    def __init__(self, url: str, partners: Partners | None = None, patience: timedelta = FOR_PAYMENT) -> None:
        fulfilment = Fulfilling(partners or Partners(), patience, pause=timedelta(milliseconds=20))
        self.app = build(url, fulfilment=fulfilment, options=QUICK)
        self.shop = Shop(self.app)
        self.bank = fulfilment.partners.bank

    async def __aenter__(self) -> Orders:
        await self.app.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.app.__aexit__(*error)

    async def order(self, order_id: str = "o1", *items: OrderItem, home: Address = HOME) -> None:
        await self.shop.execute(
            CreateOrder(order_id=order_id, customer_id="ada", items=items or (TEA,), shipping_address=home)
        )

    async def pay(self, order_id: str = "o1", payment_id: str = "p1", amount: str = "25.80") -> None:
        await self.shop.execute(TakePayment(order_id=order_id, payment_id=payment_id, amount=Decimal(amount)))

    async def deliver(self, quantity: int = 3) -> None:
        await self.shop.execute(DeliverStock(product_id="tea", quantity=quantity))

    async def view(self, order_id: str = "o1") -> OrderView:
        view = await self.shop.ask(GetOrderById(order_id))
        assert view is not None
        return view

    async def at_rest(self, processes: int) -> None:
        """Wait until as many instances of both processes are at their end, at least, and no other is under way."""
        names = ("fulfil_order", "return_payment")

        async def are_completed() -> bool:
            head = await self.app.store.head()
            await self.app.projections.wait(head, PATIENCE, names)
            counts = [await self.app.processes.control(name).counts() for name in names]
            is_over = not any(each.running for each in counts) and head == await self.app.store.head()
            return is_over and sum(each.completed for each in counts) >= processes

        await until(are_completed, PATIENCE)
        self.shop.written = await self.app.store.head()

    async def tea(self) -> tuple[int, int]:
        """Return the available and the reserved pieces of tea, as the read model and the aggregate agree on."""
        level = await self.shop.ask(GetStock("tea"))
        assert level is not None
        assert (await self.app.repository(StockItem).load("tea")).available == level.available
        return level.available, level.reserved


async def test_a_paid_order_is_shipped_for_real(url: str) -> None:
    async with Orders(url) as orders:
        await orders.deliver()
        await orders.order()
        await orders.pay()
        await orders.pay()  # the bank tells it twice
        await orders.at_rest(1)
        view = await orders.view()
        assert (view.status, view.paid_amount, view.owed_amount) == (OrderStatus.SHIPPED, Decimal("25.80"), Decimal(0))
        assert await orders.tea() == (1, 2)
        assert orders.bank.paid_back == {}


async def test_of_two_paid_orders_one_gets_the_last_pieces_and_the_other_its_money_back(url: str) -> None:
    async with Orders(url) as orders:
        await orders.deliver()
        for order_id in ("o1", "o2"):
            await orders.order(order_id)
            await orders.pay(order_id, f"payment of {order_id}")
        await orders.at_rest(3)
        views = [await orders.view("o1"), await orders.view("o2")]
        assert sorted(each.status for each in views) == [OrderStatus.CANCELLED, OrderStatus.SHIPPED]
        [lost] = [each for each in views if each.status is OrderStatus.CANCELLED]
        assert lost.cancellation_reason == "too few pieces of tea are in stock"
        assert (lost.owed_amount, lost.refunded_amount) == (Decimal(0), Decimal("25.80"))
        assert list(orders.bank.paid_back.values()) == [(f"payment of {lost.order_id}", Decimal("25.80"))]
        assert await orders.tea() == (1, 2)


async def test_an_unpaid_order_times_out_and_a_payment_that_comes_later_goes_back(url: str) -> None:
    async with Orders(url, patience=timedelta(milliseconds=50)) as orders:
        await orders.order()
        await orders.at_rest(1)
        assert (await orders.view()).cancellation_reason == "not paid"
        await orders.pay()
        await orders.at_rest(2)
        view = await orders.view()
        assert (view.status, view.refunded_amount) == (OrderStatus.CANCELLED, Decimal("25.80"))
        assert list(orders.bank.paid_back.values()) == [("p1", Decimal("25.80"))]


async def test_what_cannot_be_sent_is_refunded_and_released(url: str) -> None:
    async with Orders(url, Partners(carrier=Carrier(avoids=frozenset({"UK"})))) as orders:
        await orders.deliver()
        await orders.order()
        await orders.pay()
        await orders.at_rest(2)
        view = await orders.view()
        assert (view.status, view.cancellation_reason) == (OrderStatus.CANCELLED, "no carrier goes to UK")
        assert (view.refunded_amount, await orders.tea()) == (Decimal("25.80"), (3, 0))


async def test_a_second_payment_and_one_of_a_wrong_amount_go_back(url: str) -> None:
    async with Orders(url) as orders:
        await orders.deliver()
        await orders.order()
        await orders.pay("o1", "too little", "1")
        await orders.pay("o1", "p1")
        await orders.pay("o1", "p2")
        await orders.at_rest(3)
        view = await orders.view()
        assert (view.status, view.refunded_amount) == (OrderStatus.SHIPPED, Decimal("26.80"))
        assert {payment for payment, _ in orders.bank.paid_back.values()} == {"too little", "p2"}


async def test_a_customer_who_cancels_what_is_paid_gets_the_money_back_and_the_goods_are_released(url: str) -> None:
    async with Orders(url) as orders:
        await orders.order()
        await orders.pay()  # there is no stock yet: whichever comes first, the order ends cancelled
        with suppress(OrderIsCancelledError):
            await orders.shop.execute(CancelOrder(order_id="o1", reason="mistake"))
        await orders.at_rest(2)
        assert (await orders.view()).refunded_amount == Decimal("25.80")


async def test_an_order_that_is_shipped_by_hand_ends_too(url: str) -> None:
    async with Orders(url) as orders:
        await orders.order()
        await orders.shop.execute(ShipOrder(order_id="o1"))
        await orders.at_rest(1)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_whatever_a_bank_does_each_payment_of_no_use_goes_back_once(url: str) -> None:
    bank = Bank(Manners(away=0.5, refuses=0.5, twice=0.5, double=0.5), Random(7))
    async with Orders(url, Partners(bank)) as orders:
        await orders.deliver(10)
        for number in range(10):
            await orders.order(f"o{number}")
            await bank.pay(f"o{number}", Decimal("25.80"), orders.shop.execute)
        await orders.at_rest(10)
        views = [await orders.view(f"o{number}") for number in range(10)]
        assert [each.status for each in views].count(OrderStatus.SHIPPED) == 5
        assert sum(each.owed_amount for each in views) == 0
        paid_back = [payment for payment, _ in bank.paid_back.values()]
        assert len(paid_back) == len(set(paid_back)) > 5
        assert sum(each.refunded_amount for each in views) == len(paid_back) * Decimal("25.80")
