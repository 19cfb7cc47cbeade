"""Commands that are carried out later: once, unless they are cancelled in time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from tests.fulfilment import QUICK, OrderCancelled, PaymentRequested, RequestPayment, Shop, until_events
from tests.processes.clocks import clock_of
from tests.synchronizing import until

from twofold import Application, Command, metadata
from twofold.errors import InvalidMessageTypeError, InvalidProcessError, UnitOfWorkError
from twofold.processes import ScheduledCommands

LONG = timedelta(days=90)


def shop_at(url: str) -> tuple[Application, Shop]:
    app = Application(url, options=QUICK)
    shop = Shop(app.store)
    app.commands.register(RequestPayment, shop.request_payment)
    app.processes.add(ScheduledCommands())
    app.store.events.register(PaymentRequested, OrderCancelled)
    return app, shop


async def test_a_command_is_carried_out_when_its_time_has_come_also_after_a_restart(url: str) -> None:
    app, shop = shop_at(url)
    command = RequestPayment(order="a", amount=1)
    async with app:
        with metadata(user="ann"):
            schedule_id = await app.commands.schedule(command, after=timedelta(seconds=1.5))
        assert await app.commands.schedule(command, after=LONG) == schedule_id  # the first one holds
        await app.commands.schedule(RequestPayment(order="b", amount=1), at=datetime.now(UTC) + LONG)
        await until(app.commands.scheduled)
    assert shop.calls == []
    app, shop = shop_at(url)
    async with app:
        await until_events(app, "a", PaymentRequested)
        assert shop.calls == [command]
        [recorded] = [each async for each in app.store.read_stream("Order-a")]
        assert (recorded.metadata.command_id, recorded.metadata.user) == (command.command_id, "ann")

        async def only_b() -> bool:
            return [each.command.order for each in await app.commands.scheduled()] == ["b"]

        await until(only_b)
        [waiting] = await app.commands.scheduled()
        assert LONG - timedelta(minutes=1) < waiting.due_at - datetime.now(UTC) <= LONG


async def test_what_is_cancelled_in_time_never_takes_effect_and_else_it_does(url: str) -> None:
    app, shop = shop_at(url)
    cancelled: set[str] = set()
    async with app:
        for number in range(20):  # some of them in time, and some not
            command = RequestPayment(order=f"o{number}", amount=1)
            after = LONG if number % 5 == 0 else timedelta(milliseconds=20 + number)
            schedule_id = await app.commands.schedule(command, after=after)
            await asyncio.sleep(0.005 * (number % 8))
            in_time = await app.commands.cancel_scheduled(schedule_id)
            if in_time:
                cancelled.add(command.order)
                assert not await app.commands.cancel_scheduled(schedule_id)
            else:
                await until_events(app, f"o{number}", PaymentRequested)
        await asyncio.sleep(0.1)  # whatever was due is under way
        await until(lambda: _none_waits(app))
        assert cancelled
        assert {each.order for each in shop.calls} == {f"o{number}" for number in range(20)} - cancelled


async def test_a_scheduled_command_is_found_at_once_and_an_id_that_is_none_is_not(url: str) -> None:
    app, _ = shop_at(url)
    async with app:
        moment = datetime.now(UTC) + LONG
        schedule_id = await app.commands.schedule(RequestPayment(order="a", amount=1), at=moment)
        found = await app.commands.find_scheduled(schedule_id)
        assert found is not None
        assert (found.id, found.due_at, found.command.order) == (schedule_id, moment, "a")
        assert await app.commands.cancel_scheduled(schedule_id)
        assert await app.commands.find_scheduled(schedule_id) is None
        for unknown in ("none", str(uuid4())):
            assert await app.commands.find_scheduled(unknown) is None
            assert not await app.commands.cancel_scheduled(unknown)
        done = await app.commands.schedule(RequestPayment(order="b", amount=1), after=timedelta(0))
        await until_events(app, "b", PaymentRequested)
        assert not await app.commands.cancel_scheduled(done)
        assert await app.commands.find_scheduled(done) is None
        control = app.processes.control("scheduled_commands")
        assert {each.id for each in await control.list()} == {schedule_id, done}


async def test_a_scheduled_command_waits_for_months_and_through_restarts(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    move_clock = clock_of(url, monkeypatch)
    app, _ = shop_at(url)
    async with app:
        schedule_id = await app.commands.schedule(RequestPayment(order="a", amount=1), after=LONG)
        await until(app.commands.scheduled)
    for shift in (LONG - timedelta(days=1), LONG + timedelta(days=1)):
        await move_clock(shift)
        app, _ = shop_at(url)
        async with app:
            await app.commands.schedule(RequestPayment(order=f"{shift.days}", amount=1), at=datetime.now(UTC))
            await until_events(app, f"{shift.days}", PaymentRequested)
            if shift < LONG:
                assert [each.id for each in await app.commands.scheduled()] == [schedule_id]
    async with shop_at(url)[0] as app:
        await until_events(app, "a", PaymentRequested)


async def test_a_command_is_scheduled_with_the_one_that_is_being_handled(url: str) -> None:
    class Fail(Command[None]):
        pass

    app, _ = shop_at(url)

    async def schedule(_: Fail) -> None:
        await app.commands.schedule(RequestPayment(order="a", amount=1), after=timedelta(0))
        with pytest.raises(UnitOfWorkError, match="no part of its append"):
            await app.commands.cancel_scheduled("a")
        raise ValueError("nothing of it")

    app.commands.register(Fail, schedule)
    async with app:
        with pytest.raises(ValueError, match="nothing of it"):
            await app.commands.execute(Fail())
        assert await app.store.head() == 0


@pytest.mark.parametrize("verb", ["schedule", "cancel_scheduled"])
async def test_a_task_that_outlives_its_handler_is_refused_to_schedule_and_to_cancel(url: str, verb: str) -> None:
    class Begin(Command[None]):
        pass

    app, _ = shop_at(url)
    go, tasks = asyncio.Event(), list[asyncio.Task[Any]]()

    async def late() -> None:
        await go.wait()
        if verb == "schedule":
            await app.commands.schedule(RequestPayment(order="late", amount=1), after=LONG)
        else:
            await app.commands.cancel_scheduled(schedule_id)

    async def begin(_: Begin) -> None:
        tasks.append(asyncio.create_task(late()))

    app.commands.register(Begin, begin)
    async with app:
        schedule_id = await app.commands.schedule(RequestPayment(order="a", amount=1), after=LONG)
        await until(app.commands.scheduled)
        await app.commands.execute(Begin())
        go.set()
        with pytest.raises(UnitOfWorkError, match="the command's handler has returned"):
            await tasks[0]
        assert [each.id for each in await app.commands.scheduled()] == [schedule_id]


async def test_a_refusal_is_shown_and_can_be_retried(url: str) -> None:
    app, shop = shop_at(url)
    shop.failing = lambda _: ValueError("no credit")
    async with app:
        schedule_id = await app.commands.schedule(RequestPayment(order="a", amount=1), after=timedelta(0))
        control = app.processes.control("scheduled_commands")
        await until(lambda: control.list(status="stuck"))
        [stuck] = await control.list()
        assert stuck.failures[0].error.startswith(
            "InvalidProcessError: the scheduled RequestPayment was refused (ValueError: no credit); retry it"
        )
        shop.failing = lambda _: None
        await control.retry(schedule_id)
        await until_events(app, "a", PaymentRequested)


async def test_what_cannot_be_scheduled_is_refused(url: str) -> None:
    app, _ = shop_at(url)
    bare = Application("memory://")
    async with app:
        command: Any = RequestPayment(order="a", amount=1)
        with pytest.raises(InvalidProcessError, match=r"add `app.processes.add\(ScheduledCommands\(\)\)`"):
            await bare.commands.schedule(command, after=LONG)
        for times in ({}, {"at": datetime.now(UTC), "after": LONG}, {"at": datetime(2026, 1, 1)}):  # noqa: DTZ001
            with pytest.raises(ValueError, match="give either at="):
                await app.commands.schedule(command, **times)
        before_all = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
        for never in ({"after": timedelta.max}, {"at": before_all}):
            with pytest.raises(ValueError, match="is a time that no clock of ours shows"):
                await app.commands.schedule(command, **never)
        assert await app.store.head() == 0
        with pytest.raises(InvalidMessageTypeError, match="has no handler here"):
            await app.commands.schedule(Command(), after=LONG)


async def _none_waits(app: Application) -> bool:
    return not await app.commands.scheduled()
