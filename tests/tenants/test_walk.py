"""One tenant tries every public function, with every name of another's things: it sees and touches nothing of them.

The walk goes over `tests/refusals/calls.py`, which another test keeps complete. What only the other tenant's events and
rows hold is a number that no argument names: it must not stand in any answer, error or event that the first one gets.
Leaks that are planted are found by the walk, each by itself.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from tests.accounts import Balance, Balances, Deposit, Deposited, GetBalance, Open, wire
from tests.refusals.calls import CALLS, Call, World
from tests.synchronizing import PATIENCE, quick, until

from twofold import (
    ANY,
    Application,
    CommandReusedError,
    DecisionModel,
    EventQuery,
    EventStore,
    Metadata,
    Options,
    ReadModel,
    ReadModelSynchronizer,
    Subscription,
    current_metadata,
    metadata,
)
from twofold.log.appender import Appender
from twofold.processes import ScheduledCommands
from twofold.processes.scheduled_commands import CommandScheduler

ACME, ZEN = "acme", "zen"
SECRET = Decimal("31337.31337")
COMMAND_ID, EVENT_ID = UUID(int=31), UUID(int=32)
SUM = DecisionModel(
    query=EventQuery.of(Deposited), initial_state=Decimal(0), evolve=lambda total, each: total + each.event.amount
)
STREAMS = ("Account-a", "Account-z", "zen/Account-z", "/Account-z", "acme/../zen/Account-z")
QUERIES = (
    None, EventQuery.all(), EventQuery.of(Deposited), EventQuery.exactly("Deposited", "Opened"),
    EventQuery.of(tags=["account:z"]), EventQuery.of(tags=["zen/account:z"]), EventQuery.of(tags=["zen/"]),
    EventQuery.of(Deposited, tags=["account:z"]), EventQuery.of(Deposited) | EventQuery.of(tags=["zen/"]),
)  # fmt: skip
ATTACKS: dict[str, Sequence[Any]] = {
    "stream_id": STREAMS,
    "id": ("a", "z", "../zen/Account-z"),
    "query": (*QUERIES, GetBalance("a"), GetBalance("z")),
    "model": (SUM, *(dataclasses.replace(SUM, query=query) for query in QUERIES if query)),
    "command": (Open(account="z"), Deposit(account="z"), Deposit(command_id=COMMAND_ID, account="a")),
    "event_ids": ([EVENT_ID],),
    "expected_version": (0, 1, ANY),
    "key": (("a",), ("z",), ("zen", "a"), ("zen/a",)),
    "where": (
        [("twofold_tenant", "=", "zen")], [("twofold_tenant", "!=", "acme")], [("owner", "=", "zen")],
        [("owner", "!=", "acme")], [("amount", ">", Decimal(1000))],
    ),
    "sort": ("amount", "twofold_tenant"),
    "by": (["owner"], ["account"], ["twofold_tenant"]),
    "search": ("zen",),
    "schedule_id": (str(COMMAND_ID), f"zen/{COMMAND_ID}"),
    "metadata": (Metadata(tenant=ZEN), Metadata(user="zen")),
    "unknown": ("raise", "raw", "skip"),
}  # fmt: skip
"""What a parameter gets in turn that may name things of the other tenant."""


ANSWERING = {
    "EventStore.read", "EventStore.read_stream", "EventStore.subscribe", "ReadModel.get(*)", "ReadModel.page",
    "ReadModel.totals", "QueryBus.ask", "watch",
}  # fmt: skip


def of(tenant: str) -> AbstractContextManager[Metadata]:
    return metadata(tenant=tenant)


@asynccontextmanager
async def shared_world(url: str) -> AsyncIterator[World]:
    """Give an application with the things of two tenants, which have the same names."""
    app = Application(url, tenants=True, options=Options(synchronizer=quick()))
    wire(app)
    balances = app.projections.add(Balances())
    app.processes.add(ScheduledCommands())

    async def balance(query: GetBalance) -> Balance | None:
        return await balances.get(query.account)

    app.queries.register(GetBalance, balance)
    async with app:
        for tenant, amount, accounts in ((ZEN, SECRET, "az"), (ACME, Decimal(1), "a")):
            with of(tenant):
                for account in accounts:
                    await app.commands.dispatch(Open(account=account, owner=tenant))
                    await app.commands.dispatch(Deposit(account=account, amount=amount))
                command = Deposit(command_id=COMMAND_ID, account="a", amount=amount)
                await app.commands.dispatch(command)
                await app.store.append([Deposited(account="a", amount=amount)], event_ids=[EVENT_ID])
                await app.commands.schedule(
                    Deposit(command_id=COMMAND_ID, account="z", amount=amount), after=timedelta(days=1)
                )
        with of(ACME):
            await app.projections.wait(await app.store.head(), PATIENCE)
        with of(ZEN):
            await until(app.commands.scheduled)
        yield World(app, app.store, balances)


async def things_of_zen(world: World) -> str:
    """Return all that the other tenant has, as text."""
    with of(ZEN):
        events = [each.stored async for each in world.store.read()]
        await world.app.projections.wait(await world.store.head(), PATIENCE)
        return repr((events, (await world.balances.page()).items, await world.app.commands.scheduled()))


async def walked(world: World) -> AsyncIterator[tuple[str, str]]:
    """Call each public function on behalf of acme, with each argument that may name things of zen."""
    for call in CALLS:
        if call.name.startswith("twofold.fastapi"):
            continue
        for change in ({}, *({name: value} for name in call.good for value in ATTACKS.get(name, ()))):
            with of(ACME):
                yield f"{call.name}({change})", await said(call, world, change)

    for name, each in (("store.log", through_log), ("projections.databases", through_databases)):
        with of(ACME):
            yield name, await asked(each, world)


async def asked(attempt: Callable[[World], Awaitable[object]], world: World) -> str:
    try:
        return repr(await attempt(world))
    except Exception as error:
        return f"{error!r}"


async def through_log(world: World) -> object:
    return await world.store.log.read(EventQuery.all(), limit=100)


async def through_databases(world: World) -> object:
    rows = [row for each in world.app.projections.databases for row in await each.query("SELECT * FROM balances")]
    return [f"{SECRET} or another row of {row}" for row in rows if ZEN in row]


async def said(call: Call, world: World, change: dict[str, Any]) -> str:
    """Return what a function answers or raises, with all that is in it."""
    try:
        async with asyncio.timeout(1.0 if call.may_be_made else 0.2):
            given = call.good | change
            arguments = {name: each(world) if is_made(each) else each for name, each in given.items()}
            outcome = call.get(world)(**arguments)
            outcome = await outcome if inspect.isawaitable(outcome) else outcome
            return await text_of(outcome)
    except Exception as error:
        return f"{error!r} {vars(error)}"


def is_made(value: Any) -> bool:
    return inspect.isfunction(value) and list(inspect.signature(value).parameters) == ["world"]


async def text_of(outcome: Any) -> str:
    if isinstance(outcome, Subscription):
        async with asyncio.timeout(0.2):
            return repr([each.stored for each in (await anext(outcome)).events])
    rows = [each.stored for each in outcome if hasattr(each, "stored")] if isinstance(outcome, list) else []
    return f"{outcome!r} {rows} {getattr(outcome, '__dict__', '')}"


async def leaks(world: World) -> list[str]:
    """Return the calls that show or touch what is another tenant's."""
    before = await things_of_zen(world)
    found = [name async for name, text in walked(world) if "31337" in text]
    if await things_of_zen(world) != before:
        found.append("something of zen was changed")
    return found


async def test_no_public_function_shows_or_touches_what_is_another_tenants(any_url: str) -> None:
    async with shared_world(any_url) as world:
        assert await leaks(world) == []
        assert "31337" in await things_of_zen(world)


async def test_the_walk_gets_answers_and_not_only_refusals(any_url: str) -> None:
    async with shared_world(any_url) as world:
        answered = {
            name.partition("({")[0]
            async for name, text in walked(world)
            if re.search("acme|Balance.account='a'|Total", text)
        }
    assert answered >= {f"twofold.{name}" for name in ANSWERING}


@contextmanager
def leaking(owner: Any, name: str, leak: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, leak)
        yield


def _owner(stream_id: str) -> str | None:
    """Return whose a stream is, to code that takes the one of zen for everybody's."""
    return ZEN if stream_id == "Account-z" else current_metadata().tenant


_waiting = CommandScheduler.waiting


async def _waiting_of_zen(scheduler: CommandScheduler, **arguments: Any) -> Any:
    with of(ZEN):
        return await _waiting(scheduler, **arguments)


LEAKS = {
    "a read that is not narrowed": (EventStore, "_own_query", lambda self, query, **_: query),
    "a stream that has no owner": (EventStore, "_own_stream", lambda self, name: f"{_owner(name)}/{name}"),
    "a filter that is left out": (ReadModel, "_own", lambda self, where: where),
    "the log without its lock": (EventStore, "log", property(lambda self: self._log)),
    "the database without its lock": (
        ReadModelSynchronizer,
        "databases",
        property(lambda self: self._databases),
    ),
    "a scheduled command of anybody": (CommandScheduler, "waiting", _waiting_of_zen),
    "command ids in common": (Appender, "own_id", lambda self, command_id: command_id),
}


@pytest.mark.parametrize("leak", LEAKS)
async def test_a_planted_leak_is_found(leak: str) -> None:
    owner, name, planted = LEAKS[leak]
    with leaking(owner, name, planted):
        found: list[str] = []
        try:
            async with shared_world("memory://") as world:
                found = await leaks(world)
        except CommandReusedError as error:  # ids in common hurt even before the walk
            found = [repr(error)]
    assert found
