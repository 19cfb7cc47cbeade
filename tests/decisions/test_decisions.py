"""The examples of dcb.events under race: two applications on one database decide at the same moments."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from decisions import courses, invoices, opt_in, orders_once, prices, usernames
from twofold import Application, Command, EventQuery, ValueTakenError

MODULES = (courses, invoices, opt_in, orders_once, prices, usernames)
NOON = datetime.fromisoformat("2026-01-01T12:00:00+00:00")


@dataclass
class Both:
    """Two applications on one database."""

    applications: tuple[Application, ...]

    @property
    def one(self) -> Application:
        return self.applications[0]

    async def race(self, commands: Iterable[Command[Any]]) -> Counter[str]:
        """Let both applications take the commands in turns, all at once; return the outcomes by name."""
        tasks = [self.applications[n % 2].commands.dispatch(command) for n, command in enumerate(commands)]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        return Counter(type(each).__name__ if isinstance(each, Exception) else "done" for each in outcomes)

    async def stored(self, kind: type) -> list[Any]:
        return [each.event async for each in self.one.store.read(EventQuery.of(kind))]


@pytest_asyncio.fixture
async def both(url: str) -> AsyncIterator[Both]:
    applications = tuple(Application(url, synchronize=False) for _ in range(2))
    async with AsyncExitStack() as stack:
        for app in applications:
            for module in MODULES:
                module.wire(app)
            await stack.enter_async_context(app)
        yield Both(applications)


async def test_a_course_takes_as_many_students_as_it_has_seats(both: Both) -> None:
    await both.one.commands.dispatch(courses.DefineCourse(course="maths", capacity=7))
    outcomes = await both.race(courses.Subscribe(student=f"s{n}", course="maths") for n in range(20))
    assert outcomes == {"done": 7, "CourseError": 13}
    assert len(await both.stored(courses.StudentSubscribed)) == 7
    await both.one.commands.dispatch(courses.ChangeCapacity(course="maths", capacity=8))
    outcomes = await both.race(courses.Subscribe(student=f"t{n}", course="maths") for n in range(4))
    assert outcomes == {"done": 1, "CourseError": 3}


async def test_a_student_takes_ten_courses_and_each_once(both: Both) -> None:
    for n in range(12):
        await both.one.commands.dispatch(courses.DefineCourse(course=f"c{n}", capacity=5))
    twice = [courses.Subscribe(student="ann", course=f"c{n}") for n in range(12) for _ in range(2)]
    assert await both.race(twice) == {"done": 10, "CourseError": 14}
    taken = [event.course for event in await both.stored(courses.StudentSubscribed)]
    assert len(taken) == len(set(taken)) == 10


async def test_a_name_belongs_to_one_account(both: Both) -> None:
    outcomes = await both.race(usernames.Register(account=f"a{n}", name="ann") for n in range(16))
    assert outcomes == {"done": 1, "NameTakenError": 15}


@pytest.mark.parametrize("how", ["closed", "renamed"])
async def test_a_name_that_was_given_up_is_reserved_for_three_days(both: Both, how: str) -> None:
    await both.one.commands.dispatch(usernames.Register(account="a", name="ann"))
    give_up: Command[None] = usernames.CloseAccount(account="a", timestamp=NOON)
    if how == "renamed":
        give_up = usernames.ChangeName(account="a", name="anna", timestamp=NOON)
    await both.one.commands.dispatch(give_up)
    early = NOON + usernames.RESERVED - timedelta(seconds=1)
    with pytest.raises(usernames.NameTakenError):
        await both.one.commands.dispatch(usernames.Register(account="b", name="ann", timestamp=early))
    later = NOON + usernames.RESERVED
    outcomes = await both.race(usernames.Register(account=f"b{n}", name="ann", timestamp=later) for n in range(8))
    assert outcomes == {"done": 1, "NameTakenError": 7}


async def test_an_earlier_price_is_good_for_ten_minutes(both: Both) -> None:
    def order(price: str, after: timedelta) -> prices.OrderProducts:
        items = (prices.Item("book", Decimal(price)), prices.Item("pen", Decimal(2)))
        return prices.OrderProducts(items=items, timestamp=NOON + after)

    dispatch = both.one.commands.dispatch
    await dispatch(prices.SetPrice(product="pen", price=Decimal(2), timestamp=NOON - timedelta(days=1)))
    await dispatch(prices.SetPrice(product="book", price=Decimal(10), timestamp=NOON - timedelta(days=1)))
    await dispatch(prices.SetPrice(product="book", price=Decimal(12), timestamp=NOON))
    assert await dispatch(order("10", prices.GRACE - timedelta(seconds=1))) == Decimal(12)
    assert await dispatch(order("12", prices.GRACE)) == Decimal(14)
    for refused in (order("10", prices.GRACE), order("11", timedelta())):
        with pytest.raises(prices.PriceError):
            await dispatch(refused)
    assert [event.total for event in await both.stored(prices.ProductsOrdered)] == [Decimal(12), Decimal(14)]


async def test_invoices_are_numbered_without_gaps(both: Both) -> None:
    outcomes = await both.race(invoices.CreateInvoice(customer=f"c{n}", amount=Decimal(n)) for n in range(40))
    assert outcomes == {"done": 40}
    assert [event.number for event in await both.stored(invoices.InvoiceCreated)] == list(range(1, 41))


async def test_a_token_confirms_one_sign_up_in_time(both: Both) -> None:
    start = opt_in.InitiateSignUp(token="t1", email="ann@example.org", timestamp=NOON)
    await both.one.commands.dispatch(start)
    confirm = opt_in.ConfirmSignUp(token="t1", timestamp=NOON + opt_in.GOOD_FOR - timedelta(seconds=1))
    late = replace(confirm, timestamp=NOON + opt_in.GOOD_FOR)
    for refused in (late, opt_in.ConfirmSignUp(token="t2"), opt_in.InitiateSignUp(token="t1", email="bob@example.org")):
        with pytest.raises(opt_in.TokenError):
            await both.one.commands.dispatch(refused)
    again = (opt_in.ConfirmSignUp(token="t1", timestamp=confirm.timestamp) for _ in range(10))
    assert await both.race(again) == {"done": 1, "TokenError": 9}
    assert len(await both.stored(opt_in.SignUpConfirmed)) == 1


async def test_a_form_that_is_sent_twice_places_one_order(both: Both) -> None:
    outcomes = await both.race(orders_once.PlaceOrder(order=f"o{n}", token="t") for n in range(12))
    assert outcomes == {"done": 1, ValueTakenError.__name__: 11}
    same = orders_once.PlaceOrder(order="o", token="t2")
    assert await both.race([same] * 12) == {"done": 12}, "under one command id, a repeat gets the first receipt"
    assert len(await both.stored(orders_once.OrderPlaced)) == 2
