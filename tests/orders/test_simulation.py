"""The simulated shop, in a hurry: every way that an order can go is gone, and at the end nothing is left over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal

from tests.synchronizing import PATIENCE, until

from orders.app import Shop, build
from orders.fulfilment import Fulfilling
from orders.order import OrderStatus
from orders.partners import Bank, Carrier, Manners, Partners
from orders.queries import SearchOrders
from orders.simulation import Simulation
from orders.views import OrderView
from twofold.options import Backoff, Options, ProcessOptions

QUICK = Options(processes=ProcessOptions(backoff=Backoff(first=0.01, last=0.05), poll=0.05))
BADLY = Manners(away=0.2, refuses=0.2, twice=0.3, double=0.3, seconds=0.1)


async def test_a_simulated_shop_goes_every_way_and_owes_nothing_at_the_end(url: str) -> None:
    bank = Bank(BADLY)
    partners = Partners(bank, Carrier(avoids=frozenset({"UK", "France"})))
    fulfilling = Fulfilling(partners, patience=timedelta(seconds=1), pause=timedelta(milliseconds=20))
    app = build(url, fulfilment=fulfilling, options=QUICK)
    async with app:
        shop = Shop(app)
        customers = asyncio.create_task(Simulation(shop, past=5, per_second=40, bank=bank).run())

        async def orders() -> Iterable[OrderView]:
            return (await shop.ask(SearchOrders(page_size=1000))).items

        async def all_ways_are_gone() -> bool:
            reasons = [each.cancellation_reason or "" for each in await orders()]
            shipped = any(each.paid_amount and each.status is OrderStatus.SHIPPED for each in await orders())
            wanted = ("not paid", "too few pieces", "no carrier goes")
            return shipped and all(any(way in reason for reason in reasons) for way in wanted)

        try:
            await until(all_ways_are_gone, 2 * PATIENCE)
        finally:
            customers.cancel()
            await asyncio.gather(customers, return_exceptions=True)

        async def is_over() -> bool:
            head = await app.store.head()
            await app.projections.wait(head, PATIENCE, ["fulfil_order", "return_payment"])
            counts = [await app.processes.control(name).counts() for name in ("fulfil_order", "return_payment")]
            return not any(each.running or each.stuck for each in counts) and head == await app.store.head()

        await until(is_over, 2 * PATIENCE)
        shop.written = await app.store.head()
        views = await orders()
        assert {each.status for each in views} == {OrderStatus.SHIPPED, OrderStatus.CANCELLED}
        assert sum(each.owed_amount for each in views) == 0
        paid_back = sum((amount for _, amount in bank.paid_back.values()), Decimal(0))
        assert sum(each.refunded_amount for each in views) == paid_back > 0
