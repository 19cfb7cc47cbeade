"""Many callers at one moment wait for a silent server as long as one does: none begins when another has given up."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest_asyncio
from tests.accounts import Balance, Balances, Deposit, GetBalance, Open, wire
from tests.engines.postgres.frozen_line import FrozenLine, frozen_line
from tests.postgres_servers import PostgresServer
from tests.synchronizing import PATIENCE, opened

from twofold import Application, ReadModel
from twofold.errors import OutcomeUnknownError, StaleReadError, StorageError
from twofold.options import Options, PostgresOptions, QueryOptions

CALLERS = 20
ONE = 2.5
"""Seconds that one caller waits with these options: two silences, and libpq's shortest wait for a connection."""
BOUND = 4 * ONE
"""Seconds in which all callers must be done, on a slow machine, too; one after the other they take twenty times one."""
OPTIONS = Options(
    postgres=PostgresOptions(
        silence_timeout=0.2,
        answer_timeout=ONE,
        statement_timeout=60.0,
        connect_timeout=2.0,
        append_timeout=3.0,
        poll=0.1,
        max_group=4,
        min_group=2,
    ),
    queries=QueryOptions(lookup=0.01, poll=0.05),
)

REFUSALS = (StorageError, OutcomeUnknownError, StaleReadError)
Use = Callable[[], Awaitable[object]]


class Kept(Balances):
    """Must not be late, so that each question asks how late it is."""

    max_lag = timedelta(seconds=1)


class OnDemand(Balances):
    name = "on_demand"


@asynccontextmanager
async def application(url: str) -> AsyncIterator[tuple[Application, Mapping[str, Use]]]:
    """Yield a running application, and what is asked of it."""
    app = Application(url, options=OPTIONS)
    wire(app)
    balances, on_demand = app.projections.add(Kept()), app.projections.add(OnDemand(), kind="on_demand")

    async def balance(query: GetBalance) -> Balance | None:
        return await balances.get(query.account)

    app.queries.register(GetBalance, balance, reads=["balances"])
    async with app:
        receipt = await app.commands.execute(Open(account="a"))
        await app.projections.wait(receipt, PATIENCE)
        yield app, uses(app, balances, on_demand)


def uses(app: Application, balances: ReadModel[Any], on_demand: ReadModel[Any]) -> Mapping[str, Use]:
    store, queries = app.store, app.queries
    numbers = iter(range(10**6))

    async def after() -> object:
        return await queries.dispatch(GetBalance(account="a"), after=await store.head(), timeout=1.0)

    async def read() -> object:
        return [event async for event in store.read(limit=1)]

    return {
        "get": lambda: balances.get("a"),
        "page": lambda: balances.page(),
        "totals": lambda: balances.totals(by=(), of="changes"),
        "get on demand": lambda: on_demand.get("a"),
        "query": lambda: queries.dispatch(GetBalance(account="a")),
        "query after what was written": after,
        "wait": lambda: app.projections.wait(10**6, 1.0),
        "status": app.projections.status,
        "head": store.head,
        "read": read,
        "append": lambda: store.append([opened(f"{next(numbers)}")]),
        "command": lambda: app.commands.execute(Deposit(account="a")),
    }


async def ask_all(uses: Mapping[str, Use]) -> dict[str, list[float]]:
    """Ask everything at once, many times; return the seconds that the callers took."""
    taken: dict[str, list[float]] = {name: [] for name in uses}

    async def ask(name: str, use: Use) -> None:
        started = time.monotonic()
        with suppress(*REFUSALS):
            await use()
        taken[name].append(time.monotonic() - started)

    async with asyncio.timeout(BOUND * 10), asyncio.TaskGroup() as group:
        for name, use in uses.items():
            for _ in range(CALLERS):
                group.create_task(ask(name, use))
    return taken


def late(taken: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: max(each) for name, each in taken.items() if max(each) > BOUND}


async def works(uses: Mapping[str, Use]) -> None:
    """Return once all of it is answered again."""
    async with asyncio.timeout(PATIENCE):
        for name, use in uses.items():
            while name != "wait":
                try:
                    await use()
                    break
                except REFUSALS:
                    await asyncio.sleep(0.05)


@pytest_asyncio.fixture
async def line(postgres_server: Callable[[int], PostgresServer]) -> AsyncIterator[FrozenLine]:
    async with frozen_line(postgres_server(18).folder) as line:
        yield line


async def test_twenty_callers_wait_for_frozen_connections_as_long_as_one_does(
    new_database: Callable[[int], str], line: FrozenLine
) -> None:
    url = f"postgresql://postgres@127.0.0.1:{line.port}{urlsplit(new_database(18)).path}"
    async with application(url) as (_, uses):
        line.freeze(new=True)
        try:
            assert late(await ask_all(uses)) == {}
        finally:
            line.thaw()
        await works(uses)


async def test_twenty_callers_wait_for_a_frozen_server_as_long_as_one_does(
    own_server: Callable[..., PostgresServer],
) -> None:
    server = own_server()
    async with application(server.url("postgres")) as (_, uses):
        frozen = server.processes
        for each in frozen:
            os.kill(each, signal.SIGSTOP)
        try:
            assert late(await ask_all(uses)) == {}
        finally:
            for each in frozen:
                os.kill(each, signal.SIGCONT)
        await works(uses)
