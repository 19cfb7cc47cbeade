"""The read models: what they make of the events of orders."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from tests.orders.samples import CUP, HOME, LATER, NOON, TEA

from orders.app import Shop, build
from orders.commands import AddItem, CancelOrder, CreateOrder, RemoveItem, ReturnItem, ShipOrder
from orders.errors import NothingToReturnError, OrderExistsError
from orders.items import Address, OrderItem
from orders.order import OrderStatus
from orders.queries import GetCustomerOrders, GetOrderById, OrderSort, SalesByMonth, SalesLine, SearchOrders
from orders.views import OrderView
from twofold import PaginatedResult
from twofold.errors import CommandReusedError


@pytest_asyncio.fixture
async def shop(url: str) -> AsyncIterator[Shop]:
    async with build(url) as app:
        yield Shop(app)


async def order(shop: Shop, id: str, *items: OrderItem, customer: str = "ada", **changes: Any) -> None:
    command = CreateOrder(
        order_id=id, customer_id=customer, items=items or (TEA,), shipping_address=HOME, timestamp=NOON
    )
    await shop.execute(replace(command, **changes))


async def view(shop: Shop, id: str) -> OrderView:
    found = await shop.ask(GetOrderById(id))
    assert found is not None
    return found


def ids(page: PaginatedResult[OrderView]) -> list[str]:
    return [row.order_id for row in page.items]


async def test_an_order_shows_what_was_ordered(shop: Shop) -> None:
    await order(shop, "o1", TEA, CUP)
    row = await view(shop, "o1")
    assert (row.status, row.total_amount, row.item_count) == (OrderStatus.OPEN, Decimal("34.55"), 2)
    assert (row.created_at, row.shipped_at, row.items, row.shipping_address) == (NOON, None, (TEA, CUP), HOME)


async def test_added_and_removed_items_change_count_and_total(shop: Shop) -> None:
    await order(shop, "o1", TEA)
    await shop.execute(AddItem(order_id="o1", item=CUP))
    await shop.execute(AddItem(order_id="o1", item=replace(CUP, quantity=2)))
    assert (await view(shop, "o1")).items == (TEA, replace(CUP, quantity=3))
    await shop.execute(RemoveItem(order_id="o1", product_id="tea"))
    row = await view(shop, "o1")
    assert (row.item_count, row.total_amount, row.items_text) == (1, Decimal("26.25"), "cup Stoneware cup")


async def test_the_ends_of_an_order_are_dated(shop: Shop) -> None:
    await order(shop, "o1")
    await order(shop, "o2")
    await shop.execute(ShipOrder(order_id="o1", timestamp=LATER))
    await shop.execute(CancelOrder(order_id="o2", reason="mistake", timestamp=LATER))
    one, two = await view(shop, "o1"), await view(shop, "o2")
    assert (one.status, one.shipped_at) == (OrderStatus.SHIPPED, LATER)
    assert (two.status, two.cancelled_at, two.cancellation_reason) == (OrderStatus.CANCELLED, LATER, "mistake")


async def test_there_is_no_order_that_was_not_created(shop: Shop) -> None:
    assert await shop.ask(GetOrderById("none")) is None


async def test_an_order_id_is_given_once(shop: Shop) -> None:
    await order(shop, "o1")
    with pytest.raises(OrderExistsError):
        await order(shop, "o1")


async def test_a_command_that_is_repeated_creates_one_order(shop: Shop) -> None:
    command = CreateOrder(customer_id="ada", items=(TEA,), shipping_address=HOME)
    first, second = await shop.execute(command), await shop.execute(command)
    assert (first.value, second.value) == (str(command.command_id),) * 2
    assert second.repeated
    with pytest.raises(CommandReusedError):
        await shop.execute(replace(command, customer_id="bob"))


async def test_a_customer_sees_the_own_orders_the_newest_first(shop: Shop) -> None:
    for number in range(5):
        await order(shop, f"o{number}", timestamp=NOON + timedelta(days=number))
    await order(shop, "other", customer="bob")
    await shop.execute(ShipOrder(order_id="o3"))
    page = await shop.ask(GetCustomerOrders(customer_id="ada", page=2, page_size=2))
    assert (ids(page), page.total, page.total_pages) == (["o2", "o1"], 5, 3)
    assert ids(await shop.ask(GetCustomerOrders(customer_id="ada", status=OrderStatus.SHIPPED))) == ["o3"]


async def test_words_are_found_in_customer_items_and_address(shop: Shop) -> None:
    zurich = Address(street="Rämistrasse 1", city="Zürich", postal_code="8001", country="Switzerland")
    await order(shop, "o1", TEA, CUP, customer="grace.hopper", shipping_address=zurich)
    await order(shop, "o2", OrderItem("pot", 1, Decimal(1)))
    for words in ("grace", "darjeel", "STONEWARE cup", "zürich", "zurich", "8001", "grace zurich tea"):
        assert ids(await shop.ask(SearchOrders(text=words))) == ["o1"], words


async def test_removed_items_are_not_found(shop: Shop) -> None:
    await order(shop, "o1", TEA, CUP)
    await shop.execute(RemoveItem(order_id="o1", product_id="cup"))
    assert ids(await shop.ask(SearchOrders(text="stoneware"))) == []


async def test_a_search_filters_by_status_amount_and_day(shop: Shop) -> None:
    for number in range(1, 5):
        item = OrderItem("tea", number, Decimal("10"))
        await order(shop, f"o{number}", item, timestamp=datetime(2011, 12, number, 23, 59, tzinfo=UTC))
    await shop.execute(ShipOrder(order_id="o2"))
    assert ids(await shop.ask(SearchOrders(status=OrderStatus.SHIPPED))) == ["o2"]
    assert ids(await shop.ask(SearchOrders(min_amount=Decimal(20), max_amount=Decimal("30.00")))) == ["o3", "o2"]
    assert ids(await shop.ask(SearchOrders(date_from=date(2011, 12, 2), date_to=date(2011, 12, 3)))) == ["o3", "o2"]


async def test_every_sort_walks_through_all_orders_by_cursor(shop: Shop) -> None:
    for number in range(7):
        await order(shop, f"o{number}", OrderItem("tea", 1 + number % 3, Decimal(9)), customer=f"c{number % 2}")
    for sort in OrderSort:
        walked: list[str] = []
        cursor = None
        for _ in range(4):
            page = await shop.ask(SearchOrders(sort_by=sort, descending=False, page_size=2, cursor=cursor))
            walked += ids(page)
            cursor = page.next_cursor
        assert walked == ids(await shop.ask(SearchOrders(sort_by=sort, descending=False))), sort
        assert sorted(walked) == [f"o{number}" for number in range(7)], sort


async def test_goods_go_back_to_the_newest_earlier_order_that_holds_them(shop: Shop) -> None:
    for number in range(3):
        await order(shop, f"o{number}", timestamp=NOON + timedelta(days=number))
        await shop.execute(ShipOrder(order_id=f"o{number}"))
    back = ReturnItem(customer_id="ada", item=replace(TEA, quantity=1), timestamp=NOON + timedelta(days=1, hours=1))
    receipt = await shop.execute(back)
    assert receipt.value == "o1"
    assert (await view(shop, "o1")).returned_amount == Decimal("12.90")
    assert (await shop.execute(back)).repeated


async def test_goods_that_the_customer_never_bought_are_not_taken_back(shop: Shop) -> None:
    await order(shop, "o1", customer="bob")
    await shop.execute(ShipOrder(order_id="o1"))
    with pytest.raises(NothingToReturnError):
        await shop.execute(ReturnItem(customer_id="ada", item=TEA))


async def test_the_sales_report_adds_up_what_was_sold_by_month_and_country(shop: Shop) -> None:
    await order(shop, "o1", TEA, CUP)
    await shop.execute(RemoveItem(order_id="o1", product_id="cup"))
    await shop.execute(AddItem(order_id="o1", item=CUP))
    await shop.execute(ShipOrder(order_id="o1"))
    await shop.execute(ReturnItem(customer_id="ada", item=CUP))
    await order(shop, "o2")
    await order(shop, "o3")
    await shop.execute(CancelOrder(order_id="o3", reason="mistake"))
    assert await shop.ask(SalesByMonth()) == [
        SalesLine(
            month="2011-12",
            country="UK",
            orders=2,
            items_sold=5,
            revenue=Decimal("60.35"),
            returned=Decimal("8.75"),
        )
    ]
