"""Timers go by the database's clock, whatever the hosts' clocks say, and for months."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from tests.fulfilment import (
    QUICK,
    Fulfilment,
    FulfilOrder,
    OrderCancelled,
    OrderPlaced,
    OrderShipped,
    PaymentRequested,
    running,
    until_events,
    until_status,
)
from tests.processes.clocks import MoveClock, ShiftedTime, clock_of
from tests.synchronizing import PATIENCE, until

from twofold import Application
from twofold.options import Options, ProcessOptions
from twofold.processes import after, due, sweep
from twofold.processes.rows import statement, table_of
from twofold.processes.steps import TimerFired

DAY = timedelta(days=1)


@pytest.fixture
def move_clock(url: str, monkeypatch: pytest.MonkeyPatch) -> MoveClock:
    return clock_of(url, monkeypatch)


async def fired(app: Application, order: str) -> list[Any]:
    """Return the steps of an order in which a timer fired."""
    steps: list[Any] = [each.event async for each in app.store.read_stream(f"twofold.fulfil_order-{order}")]
    return [each for each in steps if isinstance(each.input, TimerFired)]


async def test_a_timer_waits_for_months_and_through_restarts(url: str, move_clock: MoveClock) -> None:
    async with running(url) as (app, _):
        await app.store.append([OrderPlaced(order="a", deadline=90 * DAY.total_seconds())])
        await until_status(app, "a", "running")
    await move_clock(89 * DAY)
    async with running(url) as (app, _):
        await app.store.append([OrderPlaced(order="b", deadline=0.01)])
        await until_events(app, "b", PaymentRequested, OrderCancelled)  # the timers that are due fire
        assert await fired(app, "a") == []
    await move_clock(91 * DAY)
    async with running(url) as (app, _):
        await until_events(app, "a", PaymentRequested, OrderCancelled)
        [step] = await fired(app, "a")
        assert DAY <= step.at - step.input.due_at < 2 * DAY  # how late it was can be seen


async def test_a_timer_fires_in_time_however_seldom_the_rows_are_looked_at(url: str) -> None:
    """Also one that was set by a program that is gone: what will be due is known from the look before."""
    seldom = Options(processes=ProcessOptions(poll=10 * PATIENCE))
    async with running(url, options=seldom) as (app, _):
        await app.store.append([OrderPlaced(order="a", deadline=2), OrderPlaced(order="b", deadline=0.1)])
        await until_events(app, "b", PaymentRequested, OrderCancelled)
    async with running(url, options=seldom) as (app, _):
        await until_events(app, "a", PaymentRequested, OrderCancelled)


async def test_a_timer_that_is_set_while_the_rows_are_looked_at_fires_in_time(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look does not see it, and must not forget what the feed has told in between."""
    async with running(url, Repeated(), options=Options(processes=ProcessOptions(poll=10 * PATIENCE))) as (app, _):
        database, gate, looking = app.projections.databases[0], asyncio.Event(), asyncio.Event()
        query, look = database.query, statement("due", table_of("fulfil_order", "__1"))

        async def held_up(sql: str, **values: Any) -> list[tuple[Any, ...]]:
            rows = await query(sql, **values)
            if sql == look:
                looking.set()
                await gate.wait()
            return rows

        monkeypatch.setattr(database, "query", held_up)
        await app.store.append([OrderPlaced(order="a", deadline=0.01)])
        await looking.wait()  # for a, whose timer is due
        receipt = await app.store.append([OrderPlaced(order="b", deadline=1)])
        await app.projections.wait(receipt, PATIENCE, ["fulfil_order"])
        gate.set()
        await until(lambda: fired(app, "b"))


@pytest.mark.parametrize("wrong", [-DAY, DAY], ids=["a day behind", "a day ahead"])
async def test_a_host_whose_clock_is_wrong_fires_timers_when_the_database_says(
    url: str, wrong: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "time", ShiftedTime(wrong))
    async with running(url) as (app, _):
        await app.store.append([OrderPlaced(order="a", deadline=0.3), OrderPlaced(order="b")])
        await until_events(app, "a", PaymentRequested, OrderCancelled)
        [step] = await fired(app, "a")
        assert step.input.due_at <= step.at
        assert await fired(app, "b") == []


async def test_a_database_clock_that_goes_back_fires_no_timer_again(url: str, move_clock: MoveClock) -> None:
    await move_clock(DAY)
    async with running(url, Repeated()) as (app, _):
        await app.store.append([OrderPlaced(order="a", deadline=-1)])
        await until(lambda: fired(app, "a"))
        await move_clock(timedelta())
        await app.store.append([OrderPlaced(order="b", deadline=-1)])
        await until(lambda: fired(app, "b"), PATIENCE)
        assert len(await fired(app, "a")) == 1


async def test_a_timer_that_does_not_fire_makes_health_red(url: str, move_clock: MoveClock) -> None:
    async with running(url) as (app, _):
        await app.store.append([OrderPlaced(order="a"), OrderPlaced(order="b", deadline=7 * DAY.total_seconds())])
        await until_status(app, "a", "running")
        await until_status(app, "b", "running")
        [status] = await app.processes.status()
        assert (status.problems, status.counts.timer_late) == ([], timedelta())
    await move_clock(DAY)
    async with running(url, synchronize=False) as (app, _):
        [feed] = await app.projections.status()  # which health asks
        [status] = await app.processes.status()
        for each in (feed, status):
            assert any(problem.startswith("the oldest timer is 82") for problem in each.problems), each.problems
        assert DAY - timedelta(hours=2) < status.counts.timer_late < DAY


async def test_a_process_may_say_how_late_its_timers_may_be(url: str, move_clock: MoveClock) -> None:
    async with running(url, Patient()) as (app, _):
        await app.store.append([OrderPlaced(order="a")])
        await until_status(app, "a", "running")
    await move_clock(DAY)
    async with running(url, Patient(), synchronize=False) as (app, _):
        [feed] = await app.projections.status()
        assert not any("oldest timer" in problem for problem in feed.problems), feed.problems


async def test_while_no_timer_is_due_one_statement_a_look_is_all_however_many_wait(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(url) as (app, _):
        many = [OrderPlaced(order=f"o{number}") for number in range(300)]
        await app.store.append([*many, *(OrderShipped(order=each.order) for each in many[:100])])
        control = app.processes.control("fulfil_order")

        async def is_at_rest() -> bool:
            return not any(each.waiting for each in await control.list(limit=1000))

        await app.projections.wait(400, PATIENCE, ["fulfil_order"])
        await until(is_at_rest)
        asked: list[tuple[str, int, float]] = []
        database = app.projections.databases[0]
        query = database.query

        async def noted(sql: str, **values: Any) -> list[tuple[Any, ...]]:
            began = asyncio.get_running_loop().time()
            rows = await query(sql, **values)
            if "fulfil_order__1" in sql:
                asked.append((sql, len(rows), began))
            return rows

        async def has_looked() -> bool:
            return len(asked) >= 8

        monkeypatch.setattr(database, "query", noted)
        await until(has_looked)
        look = statement("due", table_of("fulfil_order", "__1"))
        at_rest = asked[3:]  # the first ones may be those of the last outcomes
        assert {(sql, rows) for sql, rows, _ in at_rest} == {(look, 0)}
        gaps = [later[2] - earlier[2] for earlier, later in pairwise(at_rest)]
        assert min(gaps) > 0.9 * QUICK.processes.poll


class Repeated(FulfilOrder):
    """Its timer may be set in the past."""

    def placed(self, state: Fulfilment, event: OrderPlaced) -> Iterator[object]:
        yield after(timedelta(seconds=event.deadline), "payment")

    @due("payment")
    def overdue(self, state: Fulfilment) -> tuple[()]:
        return ()


class Patient(FulfilOrder):
    """It may be late by a week."""

    max_lag = timedelta(days=7)
