"""Rows of instances that ended long ago go; what comes for them later is ignored as before."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.fulfilment import (
    QUICK,
    OrderPlaced,
    OrderShipped,
    PaymentReceived,
    PaymentRequested,
    RequestPayment,
    running,
    until_events,
    until_status,
)
from tests.processes.test_scheduling import shop_at
from tests.synchronizing import PATIENCE, until

from twofold import Application
from twofold.errors import UnknownProcessError
from twofold.options import Options, ProcessOptions
from twofold.processes.control import ProcessInstance
from twofold.processes.ledger import Ledger

AT_ONCE = timedelta()


def keeping(**changes: Any) -> Options:
    """Return options by which no ended row is kept, and old ones are looked for all the time."""
    fast: dict[str, Any] = {"ended_kept": 0, "pruned_every": 0.05, "pruning_share": 1, "pruned_at_once": 2}
    return replace(QUICK, processes=replace(QUICK.processes, **(fast | changes)))


async def ended(url: str, *orders: str, options: Options = QUICK) -> None:
    """Let instances end, and others begin; leave when the rows of the ended ones are gone, if they shall be."""
    async with running(url, options=options) as (app, _):
        control = app.processes.control("fulfil_order")
        await app.store.append([OrderPlaced(order=each) for each in (*orders, "goes-on")])
        for each in (*orders, "goes-on"):
            await until_events(app, each, PaymentRequested)
        await app.store.append([OrderShipped(order=each) for each in orders])

        async def is_over() -> bool:
            listed = await control.list()
            left = [each.id for each in listed if each.status == "running"]
            gone = options is QUICK or len(listed) == 1
            return left == ["goes-on"] and gone and not any(each.waiting for each in listed)

        await until(is_over)


async def take_late(url: str, *events: Any) -> tuple[list[ProcessInstance], int, list[Any]]:
    """Let events come in another process; return the instances, how many events are parked, and what was called."""
    async with running(url) as (app, shop):
        position = (await app.store.append(events)).position
        await app.projections.wait(position, PATIENCE, ["fulfil_order"])
        parked = await app.projections.control("fulfil_order").parked()
        return list(await app.processes.control("fulfil_order").list()), len(parked), shop.calls


async def test_rows_go_by_themselves_and_what_comes_late_is_ignored(url: str) -> None:
    await ended(url, "a", "b", "c", options=keeping())
    instances, parked, calls = await take_late(
        url, PaymentReceived(order="a"), OrderPlaced(order="b"), PaymentReceived(order="a")
    )
    assert (parked, calls) == (0, [])
    assert [(each.id, each.status, each.ignored) for each in instances] == [
        ("a", "completed", 2),
        ("b", "completed", 1),
        ("goes-on", "running", 0),
    ]
    async with Application(url, synchronize=False) as app:
        control = app.processes.control("fulfil_order")
        assert (await control.get("c")).status == "completed"
        assert len(await control.steps("c")) >= 3
        assert not await control.cancel("c", reason="too late")
        with pytest.raises(UnknownProcessError):
            await control.get("never")
        assert await control.prune(older_than=AT_ONCE) == 2


async def test_without_the_look_into_the_stream_a_late_event_would_be_parked(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ended(url, "a", options=keeping())
    load = Ledger.load

    async def hasty(self: Ledger, suffix: str, ids: Any, **_: Any) -> Any:
        return await load(self, suffix, ids)

    monkeypatch.setattr(Ledger, "load", hasty)
    _, parked, _ = await take_late(url, PaymentReceived(order="a"))
    assert parked == 1


async def test_an_event_for_what_never_started_is_parked_all_the_same(url: str) -> None:
    await ended(url, "a", options=keeping())
    _, parked, _ = await take_late(url, PaymentReceived(order="a"), PaymentReceived(order="never"))
    assert parked == 1


async def test_only_what_has_ended_and_waits_for_nothing_is_removed(url: str) -> None:
    async with running(url) as (app, shop):
        control = app.processes.control("fulfil_order")
        shop.waiting["a"] = asyncio.Event()
        await app.store.append([OrderPlaced(order="a"), OrderPlaced(order="b"), OrderShipped(order="a")])
        await app.store.append([OrderPlaced(order="c"), OrderShipped(order="c")])
        await until_events(app, "b", PaymentRequested)
        await until_status(app, "c", "completed")
        assert await control.prune(older_than=AT_ONCE, write=False) == 1
        assert await control.prune(older_than=AT_ONCE) == 1, "a command of the other one is under way"
        assert {each.id: each.status for each in await control.list()} == {"a": "completed", "b": "running"}
        shop.waiting["a"].set()
        await until_status(app, "a", "completed")
        await control.cancel("b", reason="a mistake")
        assert await control.prune() == 0, "after 90 days"
        assert await control.prune(older_than=AT_ONCE, write=False) == 2
        assert len(await control.list()) == 2
        assert await control.prune(older_than=AT_ONCE) == 2
        assert await control.list() == []
        with pytest.raises(ValueError, match="not negative"):
            await control.prune(older_than=-timedelta(days=1))


async def test_none_is_removed_where_that_is_off(url: str) -> None:
    async with running(url, options=keeping(prunes_ended="off")) as (app, _):
        await app.store.append([OrderPlaced(order="a")])
        await until_events(app, "a", PaymentRequested)
        assert not [each for each in asyncio.all_tasks() if each.get_name().startswith("twofold-retention-")]


async def test_a_scheduled_command_whose_row_is_gone_is_done_for_ever(url: str) -> None:
    app, shop = shop_at(url)
    command = RequestPayment(order="a", amount=1)
    async with app:
        schedule_id = await app.commands.schedule(command, after=timedelta(seconds=0.01))
        await until_events(app, "a", PaymentRequested)
        control = app.processes.control("scheduled_commands")
        await until(lambda: control.prune(older_than=AT_ONCE))
        assert not await app.commands.cancel_scheduled(schedule_id)
        assert await app.commands.scheduled() == []
        assert await app.commands.schedule(command, after=timedelta(seconds=0.01)) == schedule_id
        await app.projections.wait(await app.store.head(), PATIENCE, ["scheduled_commands"])
        assert len(shop.calls) == 1


def test_a_share_of_the_time_is_more_than_none_of_it() -> None:
    with pytest.raises(ValueError, match="pruning_share"):
        ProcessOptions(pruning_share=0)
