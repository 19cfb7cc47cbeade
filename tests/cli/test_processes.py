"""Looking after processes from the command line, without their code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from tests.cli.typed import Fails, Twofold
from tests.fulfilment import (
    Fulfilment,
    FulfilOrder,
    NoStockError,
    OrderPlaced,
    OrderShipped,
    PaymentReceived,
    PaymentRequested,
    RequestPayment,
    Shop,
    running,
    until_events,
    until_status,
)
from tests.processes.test_retention import ended
from tests.synchronizing import until

from twofold import Application


def run(url: str, then: Callable[[Application, Shop], Awaitable[object]]) -> None:
    """Run the application for a while, which has left afterwards."""

    async def work() -> None:
        async with running(url, FulfilOrder()) as (app, shop):
            await then(app, shop)

    asyncio.run(work())


async def _two(app: Application, shop: Shop) -> None:
    """Let one instance be stuck, and another one be completed."""
    shop.failing = lambda command: NoStockError("no") if getattr(command, "order", "") == "a" else None
    await app.store.append([OrderPlaced(order="a"), OrderPlaced(order="b"), OrderShipped(order="b")])
    await until_status(app, "b", "completed")
    await until(lambda: app.processes.control("fulfil_order").list(status="stuck"))


def test_an_operator_sees_what_is_stuck_and_lets_it_go_on(url: str, twofold: Twofold, fails: Fails) -> None:
    run(url, _two)
    shown = twofold("processes", url)
    assert shown.returncode == 1
    assert "fulfil_order: 1 instances are stuck; `twofold processes list --status stuck` shows why" in shown.stdout
    listed = twofold("processes", "list", url, "fulfil_order")
    assert listed.returncode == 0
    assert [line.split("│")[1].strip() for line in listed.stdout.splitlines() if line.startswith("│")] == ["a", "b"]
    assert "b" not in _ids(twofold("processes", "list", url, "fulfil_order", "--status", "stuck").stdout)
    detail = twofold("processes", "show", url, "fulfil_order", "a").stdout
    assert "fails: InvalidProcessError: RequestPayment was refused (NoStockError: no)" in detail
    assert "event OrderPlaced" in detail
    assert "sends RequestPayment, sets payment for " in detail
    assert twofold("processes", "retry", url, "fulfil_order", "a").stdout.startswith("1 are tried again")
    assert fails("processes", "retry", url, "fulfil_order", "a") == "nothing of fulfil_order a fails or is parked"

    async def goes_on(app: Application, shop: Shop) -> None:
        await until_events(app, "a", PaymentRequested)
        await until_status(app, "a", "running")

    run(url, goes_on)
    assert twofold("processes", url).returncode == 0


def test_an_operator_sees_what_is_parked_and_how_late_the_oldest_timer_is(url: str, twofold: Twofold) -> None:
    async def work() -> None:
        async with running(url, Unable()) as (app, _):
            await app.store.append([OrderPlaced(order="a", deadline=-3600), PaymentReceived(order="never")])
            await until(lambda: app.processes.control("fulfil_order").list(status="stuck"))
            await until(app.projections.control("fulfil_order").parked)

    asyncio.run(work())
    shown = twofold("processes", url)
    assert shown.returncode == 1
    assert "fulfil_order: 1 events are parked" in shown.stdout
    assert "fulfil_order: 1 instances are stuck" in shown.stdout
    assert "fulfil_order: the oldest timer is 36" in shown.stdout


class Unable(FulfilOrder):
    """It can do nothing about what is overdue."""

    def overdue(self, state: Fulfilment) -> Iterator[object]:
        raise ZeroDivisionError


def test_an_operator_ends_an_instance(url: str, twofold: Twofold, fails: Fails) -> None:
    run(url, _two)
    cancelled = twofold("processes", "cancel", url, "fulfil_order", "a", "--reason", "a mistake", "--yes")
    assert cancelled.stdout == "fulfil_order a is cancelled\n"
    again = twofold("processes", "cancel", url, "fulfil_order", "a", "--reason", "a mistake", "--yes")
    assert again.stdout == "fulfil_order a is at its end already\n"
    assert "cancelled a mistake" in twofold("processes", "show", url, "fulfil_order", "a").stdout
    assert "no instance 'x'" in fails("processes", "cancel", url, "fulfil_order", "x", "--reason", "a mistake", "--yes")
    assert "no process 'other' in this database" in fails("processes", "list", url, "other")

    async def is_at_rest(app: Application, shop: Shop) -> None:
        await app.store.append([OrderPlaced(order="c")])
        await until_events(app, "c", PaymentRequested)
        assert [each for each in shop.calls if isinstance(each, RequestPayment) and each.order == "a"] == []

    run(url, is_at_rest)


def test_an_operator_removes_rows(url: str, twofold: Twofold) -> None:
    asyncio.run(ended(url, "a", "b"))
    assert "process fulfil_order 1 going on, 2 ended and kept" in twofold("doctor", url).stdout
    assert "0 rows of ended instances are that old" in twofold("processes", "prune", url, FulfilOrder.name).stdout
    at_once = ("processes", "prune", url, FulfilOrder.name, "--older-than", "0d")
    assert "2 rows of ended instances are that old; `--yes` removes them" in twofold(*at_once).stdout
    assert "2 rows of ended instances were removed" in twofold(*at_once, "--yes").stdout
    assert "completed" in twofold("processes", "show", url, FulfilOrder.name, "a").stdout


def test_a_database_without_processes_says_so(url: str, twofold: Twofold) -> None:
    async def nothing() -> None:
        async with Application(url):
            pass

    asyncio.run(nothing())
    assert twofold("processes", url).stdout.startswith("there are no processes in ")


def _ids(text: str) -> Any:
    return [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]
