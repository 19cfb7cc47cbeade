"""The rules that processes keep, each of which other frameworks have been caught without."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any
from uuid import uuid4

import pytest
from tests.fulfilment import (
    QUICK,
    CancelOrder,
    Fulfilment,
    FulfilOrder,
    ItemsReserved,
    NoStockError,
    OrderCancelled,
    OrderPlaced,
    OrderShipped,
    PaymentReceived,
    PaymentRequested,
    RequestPayment,
    Shop,
    events_of,
    running,
    until_events,
    until_status,
)
from tests.synchronizing import PATIENCE, until

from twofold import Application, Event, Tag, event_type, metadata
from twofold.errors import InvalidProcessError, InvalidProjectionError, StorageUnavailableError, UnknownProcessError
from twofold.ports.checkpoints import SQL
from twofold.processes import Process, after, due, evolve, on, starts
from twofold.processes.rows import statement, table_of
from twofold.processes.steps import ProcessStep, TimerFired, command_id_of


async def test_a_command_that_fails_is_tried_again_and_holds_up_its_own_process_only(url: str) -> None:
    async with running(url) as (app, shop):
        away = [StorageUnavailableError("away"), ConnectionError("away"), TypeError("a mistake in code")]
        failures = iter(3 * away)  # more often than a handler of the process may fail
        shop.failing = lambda command: next(failures, None) if getattr(command, "order", "") == "a" else None
        shop.waiting["b"] = asyncio.Event()
        await app.store.append([OrderPlaced(order="a"), OrderPlaced(order="b"), OrderPlaced(order="c")])
        await until_events(app, "c", PaymentRequested)
        await until_events(app, "a", PaymentRequested)
        assert await events_of(app, "b") == []
        assert [each.order for each in shop.calls if isinstance(each, RequestPayment)].count("a") == 10
        assert {each.command_id for each in shop.calls if getattr(each, "order", "") == "a"} == {
            command_id_of("twofold.fulfil_order-a", 1, 0)
        }
        shop.waiting["b"].set()
        await until_events(app, "b", PaymentRequested)


async def test_commands_of_an_instance_are_sent_in_order_one_after_the_other(url: str) -> None:
    async with running(url) as (app, shop):
        shop.waiting["a"] = asyncio.Event()
        await app.store.append([OrderPlaced(order="a"), PaymentReceived(order="a")])
        await until(lambda: _is(len(shop.calls) == 1))
        await app.projections.wait(2, PATIENCE, ["fulfil_order"])
        assert [type(each) for each in shop.calls] == [RequestPayment]
        shop.waiting["a"].set()
        await until_events(app, "a", PaymentRequested, ItemsReserved)


async def test_a_repeat_of_a_command_gets_the_first_receipt_and_has_no_further_effect(url: str) -> None:
    """As after a crash between the command's append and the outcome's."""
    async with running(url) as (app, shop):
        await app.commands.execute(
            RequestPayment(order="a", amount=1, command_id=command_id_of("twofold.fulfil_order-a", 1, 0))
        )
        await app.store.append([OrderPlaced(order="a", total=1)])
        await until_status(app, "a", "running")
        await until_events(app, "a", PaymentRequested)
        assert len(shop.calls) in (1, 2)


async def test_two_workers_fire_a_timer_once(url: str) -> None:
    """Both have the code; the segments are divided, and each timer has one owner, or loses the append."""
    async with running(url) as (app, shop), running(url) as (_, other):
        await app.projections.control("fulfil_order").scale(4)
        orders = [f"o{number}" for number in range(30)]
        await app.store.append([OrderPlaced(order=each, deadline=0.3) for each in orders])
        for each in orders:
            await until_events(app, each, PaymentRequested, OrderCancelled)
            await until_status(app, each, "completed")
        fired = [each for each in await _steps(app) if each.input.__class__.__name__ == "TimerFired"]
        assert len(fired) == 30
        cancels = [each for each in (*shop.calls, *other.calls) if isinstance(each, CancelOrder)]
        assert len({each.command_id for each in cancels}) == 30


async def test_what_two_hands_take_in_at_once_is_taken_in_by_one(url: str) -> None:
    """A stale instance loses the append, and is folded again: a cancellation comes between."""
    async with running(url) as (app, shop):
        await app.store.append([OrderPlaced(order="a", deadline=1.5)])
        await until_status(app, "a", "running")
        assert await app.processes.control("fulfil_order").cancel("a", reason="a mistake")
        assert not await app.processes.control("fulfil_order").cancel("a", reason="again")
        await asyncio.sleep(1.7)
        assert [type(each) for each in await events_of(app, "a")] == [PaymentRequested]
        position = (await app.store.append([PaymentReceived(order="a")])).position
        await app.projections.wait(position, PATIENCE, ["fulfil_order"])
        instance = await app.processes.control("fulfil_order").get("a")
        assert (instance.status, instance.ignored, instance.next_at) == ("cancelled", 1, None)
        assert len(shop.calls) == 1


async def test_commands_that_wait_behind_another_are_dropped_when_an_operator_cancels(url: str) -> None:
    async with running(url) as (app, shop):
        shop.waiting["a"] = asyncio.Event()
        await app.store.append([OrderPlaced(order="a"), PaymentReceived(order="a")])
        control = app.processes.control("fulfil_order")

        async def both_wait() -> bool:
            return [each.waiting for each in await control.list()] == [2] and len(shop.calls) == 1

        await until(both_wait)
        assert await control.cancel("a", reason="a mistake")
        shop.waiting["a"].set()
        await until_events(app, "a", PaymentRequested)  # it was under way
        await app.store.append([OrderPlaced(order="b", deadline=0.05)])
        await until_events(app, "b", PaymentRequested, OrderCancelled)  # in which time it would have been sent
        assert await events_of(app, "a") == [PaymentRequested(order="a", amount=10)]


async def test_a_timer_that_is_set_again_replaces_the_earlier_one(url: str) -> None:
    async with running(url, Reminders()) as (app, _):
        await app.store.append([OrderPlaced(order="a", deadline=0.05), OrderPlaced(order="a", deadline=3600)])
        await app.projections.wait(2, PATIENCE, ["fulfil_order"])
        await asyncio.sleep(0.3)
        instance = await app.processes.control("fulfil_order").get("a")
        assert instance.timer_at is not None
        assert (instance.version, (instance.timer_at - instance.started_at).total_seconds() > 3000) == (2, True)


async def test_what_waits_goes_on_after_a_restart(url: str) -> None:
    async with running(url, synchronize=False) as (app, _):
        pass
    async with running(url) as (app, shop):
        shop.waiting["a"] = shop.waiting["b"] = asyncio.Event()  # it never ends
        await app.store.append([OrderPlaced(order="a", deadline=0.2), OrderPlaced(order="b")])
        await until(lambda: _is(len(shop.calls) == 2))
        await app.projections.wait(2, PATIENCE, ["fulfil_order"])
    async with running(url) as (app, _):
        await until_events(app, "a", PaymentRequested, OrderCancelled)
        await until_events(app, "b", PaymentRequested)
        instance = await until_status(app, "b", "running")
        assert (instance.version, instance.timer_at is not None) == (2, True)  # no timer fires early


async def test_a_handler_that_fails_parks_the_event_and_the_later_ones_of_its_instance(url: str) -> None:
    process = Fragile()
    async with running(url, process) as (app, _):
        await app.store.append([OrderPlaced(order="a"), OrderPlaced(order="b"), PaymentReceived(order="a")])
        await until_events(app, "b", PaymentRequested)
        await app.projections.wait(3, PATIENCE, ["fulfil_order"])
        [status] = await app.processes.status()
        assert status.feed is not None
        assert (status.feed.parked, status.problems) == (2, ["2 events are parked"])
        process.is_mended = True
        assert await app.processes.control("fulfil_order").retry("a") == 2
        await until_events(app, "a", PaymentRequested, ItemsReserved)


async def test_an_event_of_what_never_started_is_parked(url: str) -> None:
    async with running(url) as (app, _):
        await app.store.append([PaymentReceived(order="never"), OrderPlaced(order="a")])
        await until_events(app, "a", PaymentRequested)
        [parked] = await app.projections.control("fulfil_order").parked()
        assert parked.cause.startswith("ProcessNotStartedError: PaymentReceived is about fulfil_order 'never'")
        assert [each.id for each in await app.processes.control("fulfil_order").list()] == ["a"]


async def test_a_refusal_that_no_handler_takes_makes_the_instance_stuck_until_an_operator_says(url: str) -> None:
    async with running(url) as (app, shop):
        shop.failing = lambda command: NoStockError("no") if isinstance(command, RequestPayment) else None
        await app.store.append([OrderPlaced(order="a")])
        stuck = await _until_stuck(app)
        assert stuck.failures[0].error.endswith("write one: @refused(RequestPayment)")
        assert stuck.failures[0].attempts == 1  # a missing method does not come by itself
        [status] = await app.processes.status()
        assert (status.counts.stuck, len(status.problems)) == (1, 1)
        [feed] = await app.projections.status()  # which health asks
        assert feed.problems == status.problems
        shop.failing = lambda _: None
        assert await app.processes.control("fulfil_order").retry("a") == 1
        await until_events(app, "a", PaymentRequested)
        assert (await until_status(app, "a", "running")).failures == []


async def test_a_timer_on_which_a_handler_fails_makes_the_instance_stuck(url: str) -> None:
    process = Fragile(timer=True)
    async with running(url, process) as (app, _):
        await app.store.append([OrderPlaced(order="a", deadline=0.01)])
        stuck = await _until_stuck(app)
        assert stuck.failures[0].error == "ZeroDivisionError: division by zero"
        assert stuck.failures[0].attempts == QUICK.processes.retries + 1
        process.is_mended = True
        await app.processes.control("fulfil_order").retry("a")
        await until_events(app, "a", PaymentRequested, OrderCancelled)


async def test_metadata_flows_from_the_input_through_commands_and_timers_to_what_they_cause(url: str) -> None:
    correlation = uuid4()
    async with running(url) as (app, _):
        with metadata(correlation_id=correlation, tenant="t1", user="ann", extra={"ip": "::1"}):
            await app.store.append([OrderPlaced(order="a", deadline=0.1)])
        await until_events(app, "a", PaymentRequested, OrderCancelled)
        [placed] = [each async for each in app.store.read(limit=1)]
        steps = [each async for each in app.store.read_stream("twofold.fulfil_order-a")]
        caused = [each async for each in app.store.read_stream("Order-a")]
        for each in (*steps, *caused):
            assert each.metadata.correlation_id == correlation
            assert (each.metadata.tenant, each.metadata.user, each.metadata.extra) == ("t1", "ann", {"ip": "::1"})
        assert steps[0].metadata.causation_id == placed.event_id
        assert caused[0].metadata.causation_id == steps[0].event_id
        assert caused[0].metadata.command_id == command_id_of("twofold.fulfil_order-a", 1, 0)
        fired = next(each for each in steps if type(each.event.input).__name__ == "TimerFired")
        assert fired.metadata.causation_id == steps[0].event_id
        assert caused[1].metadata.causation_id == fired.event_id


async def test_a_rebuild_and_a_set_back_checkpoint_run_no_process_again(url: str) -> None:
    async with running(url) as (app, shop):
        await app.store.append([OrderPlaced(order="a"), PaymentReceived(order="a"), OrderShipped(order="a")])
        await until_status(app, "a", "completed")
        calls, head = len(shop.calls), await app.store.head()
        await app.projections.control("fulfil_order").set_position(0, despite_effects=True)
        position = (await app.store.append([OrderShipped(order="a")])).position
        await app.projections.wait(position, PATIENCE, ["fulfil_order"])
        assert (len(shop.calls), await app.store.head()) == (calls, head + 1)
        assert (await app.processes.control("fulfil_order").get("a")).ignored == 1
        with pytest.raises(Exception, match="reaction"):
            await app.projections.rebuild_projection("fulfil_order")


async def test_a_process_begins_with_what_comes_after_it_was_added(url: str) -> None:
    async with Application(url) as app:
        await app.store.append([OrderPlaced(order="old")])
    async with running(url) as (app, shop):
        await app.store.append([OrderPlaced(order="new")])
        await until_events(app, "new", PaymentRequested)
        assert [each.order for each in shop.calls if isinstance(each, RequestPayment)] == ["new"]


async def test_a_thousand_timers_that_are_due_at_one_moment_fire_together(url: str) -> None:
    """The bar is two seconds; ten of them are for a slow machine."""
    async with running(url, Reminders()) as (app, _):
        await app.store.append([OrderPlaced(order=f"o{number}", deadline=1) for number in range(1000)])
        await app.projections.wait(1000, PATIENCE, ["fulfil_order"])
        control = app.processes.control("fulfil_order")

        async def all_fired() -> bool:
            return all(each.version == 2 for each in await control.list(limit=1000))

        await until(all_fired)
        late = [each.event.at - each.event.input.due_at async for each in _fired(app)]
        assert len(late) == 1000
        assert timedelta() <= min(late)
        assert max(late) < timedelta(seconds=10)


async def test_timers_that_wait_cost_nothing(url: str) -> None:
    """What is looked for is found by an index, however many wait: the plan of both questions is pinned."""
    async with running(url, Reminders()) as (app, _):
        await app.store.append([OrderPlaced(order=f"o{number}") for number in range(2000)])
        await app.projections.wait(2000, PATIENCE, ["fulfil_order"])
        database = app.projections.databases[0]
        explain = "EXPLAIN QUERY PLAN " if url.startswith("sqlite") else "EXPLAIN "
        if not url.startswith("sqlite"):
            async with database.transaction() as transaction:
                await transaction.run('ANALYZE "fulfil_order__1"')
        [[now]] = await database.query(SQL["now"])
        due = {"first": 0, "end": 256, "limit": 10, "soon": 10**6}
        for name, values in (("due", due), ("pressing", {"until": now + 10**6})):
            sql = explain + statement(name, table_of("fulfil_order", "__1"))
            plan = str(await database.query(sql, **values))
            assert "next_at" in plan, plan
            assert not re.search("Seq Scan on|SCAN fulfil", plan), plan


async def test_a_copied_log_runs_no_process_until_an_operator_restores_its_instances(url: str) -> None:
    """A copy has the streams and no rows. Once they are restored, timers and commands go on where they were."""
    async with running(url) as (app, shop):
        shop.waiting["b"] = asyncio.Event()  # its command is under way when the copy is made
        await app.store.append([OrderPlaced(order="a"), OrderPlaced(order="b"), OrderPlaced(order="c")])
        await until_status(app, "a", "running")
        await until_status(app, "c", "running")
        await app.store.append([OrderShipped(order="c")])
        await until_status(app, "c", "completed")
    async with Application(url) as app, app.projections.databases[0].transaction() as transaction:
        await transaction.run('DELETE FROM "fulfil_order__1"')
    async with running(url) as (app, shop):
        position = (await app.store.append([PaymentReceived(order="b"), OrderPlaced(order="a")])).position
        await app.projections.wait(position, PATIENCE, ["fulfil_order"])
        await asyncio.sleep(0.5)
        assert [each for each in shop.calls if each.order == "b"] == []
        assert await app.processes.control("fulfil_order").restore() == 2  # that of a came from its stream
        await app.processes.control("fulfil_order").retry()
        await until_events(app, "b", PaymentRequested, ItemsReserved)
        assert (await app.processes.control("fulfil_order").get("c")).status == "completed"
        assert await app.processes.control("fulfil_order").restore() == 0


async def test_old_instances_are_read_by_new_code(url: str) -> None:
    """The class of an event has moved on since it was taken in, and so has the fold."""
    async with running(url) as (app, _):
        await app.store.append([OrderPlaced(order="a", total=7)])
        await until_status(app, "a", "running")

    @event_type(
        "OrderPlaced", version=2, upcasters={1: lambda old: {"order": old["order"], "cents": old["total"] * 100}}
    )
    @dataclass(frozen=True, kw_only=True)
    class Placed(Event):
        order: Annotated[str, Tag("order")]
        cents: int

    class Newer(Process[int]):
        name, initial = "fulfil_order", 0

        @starts(Placed, key="order")
        def placed(self, state: int, event: Placed) -> tuple[()]:
            return ()

        @on(PaymentReceived, key="order")
        def paid(self, state: int, event: PaymentReceived) -> Iterator[object]:
            yield RequestPayment(order=event.order, amount=state)

        @due("payment")
        def overdue(self, state: int) -> tuple[()]:
            return ()

        @evolve(Placed)
        def add(self, state: int, event: Placed) -> int:
            return state + event.cents

        def is_completed(self, state: int) -> bool:
            return False

    newer = Application(url, options=QUICK)
    shop = Shop(newer.store)
    newer.commands.register(RequestPayment, shop.request_payment)
    newer.processes.add(Newer())
    async with newer:
        await newer.store.append([PaymentReceived(order="a")])
        await until(lambda: _is(bool(shop.calls)))
        assert shop.calls[0].amount == 700


async def test_a_process_needs_its_rows_in_the_database_of_the_log(tmp_path: Any) -> None:
    app = Application(f"sqlite:///{tmp_path}/log.db", read_url=f"sqlite:///{tmp_path}/rows.db")
    with pytest.raises(InvalidProcessError, match="in another database than the log"):
        app.processes.add(FulfilOrder())
    with pytest.raises(InvalidProcessError, match="is no process"):
        app.processes.add(object())  # type: ignore[arg-type]
    with pytest.raises(InvalidProcessError, match=r"FulfilOrder is a class; add an instance: FulfilOrder\(\)"):
        app.processes.add(FulfilOrder)  # type: ignore[arg-type]


async def test_a_process_is_added_once() -> None:
    app = Application("memory://")
    app.processes.add(FulfilOrder())
    with pytest.raises(InvalidProjectionError, match="a projection or a process named 'fulfil_order' already"):
        app.processes.add(FulfilOrder())


async def test_an_unknown_process_or_instance_is_named(url: str) -> None:
    async with running(url) as (app, _):
        with pytest.raises(UnknownProcessError, match="no process 'other' in this database; there is fulfil_order"):
            await app.processes.control("other").list()
        with pytest.raises(UnknownProcessError, match="fulfil_order has no instance 'x'"):
            await app.processes.control("fulfil_order").get("x")
        with pytest.raises(ValueError, match="say why"):
            await app.processes.control("fulfil_order").cancel("x", reason=" ")


class Reminders(Process[None]):
    """It only sets timers."""

    name = "fulfil_order"

    @starts(OrderPlaced, key="order")
    def placed(self, state: None, event: OrderPlaced) -> Iterator[object]:
        yield after(timedelta(seconds=event.deadline), "reminder")

    @due("reminder")
    def remind(self, state: None) -> tuple[()]:
        return ()

    def is_completed(self, state: None) -> bool:
        return False


class Fragile(FulfilOrder):
    """Its handlers fail until they are mended."""

    def __init__(self, *, timer: bool = False) -> None:
        self.timer = timer
        self.is_mended = False

    def placed(self, state: Fulfilment, event: OrderPlaced) -> Iterator[object]:
        if event.order == "a" and not self.timer and not self.is_mended:
            raise ZeroDivisionError("division by zero")
        return super().placed(state, event)

    def overdue(self, state: Fulfilment) -> Iterator[object]:
        if not self.is_mended:
            raise ZeroDivisionError("division by zero")
        return super().overdue(state)


async def _until_stuck(app: Application) -> Any:
    control = app.processes.control("fulfil_order")

    async def is_stuck() -> object:
        return await control.list(status="stuck")

    await until(is_stuck)
    return (await control.list(status="stuck"))[0]


async def _steps(app: Application) -> list[Any]:
    return [each.event async for each in app.store.read() if type(each.event).__name__ == "ProcessStep"]


async def _fired(app: Application) -> AsyncIterator[Any]:
    async for each in app.store.read():
        if type(each.event) is ProcessStep and type(each.event.input) is TimerFired:
            yield each


async def _is(value: bool) -> bool:
    return value
