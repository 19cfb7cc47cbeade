"""Inline projections on PostgreSQL: what the server, the connection and other clients may do meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from tests.accounts import Balance, Balances, Deposited
from tests.kinds import fresh, rows
from tests.synchronizing import deposited, engine_at, opened, write

from twofold import EventStore, ReadModelSynchronizer, on
from twofold.engines.engine import Engine
from twofold.errors import StorageUnavailableError
from twofold.options import Options, PostgresOptions

OTHER_WRITERS = """
    SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND query NOT LIKE 'LISTEN%') AS t"""
IDLE = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"


@pytest_asyncio.fixture
async def engine_with(url: str) -> AsyncIterator[Callable[..., Awaitable[Engine]]]:
    """Return a function that opens an engine with options of its own."""
    async with AsyncExitStack() as engines:

        async def opened_with(**options: Any) -> Engine:
            engine, _ = await engines.enter_async_context(engine_at(url, Options(postgres=PostgresOptions(**options))))
            return engine

        yield opened_with


async def test_connections_that_are_cut_at_any_moment_leave_neither_events_without_rows_nor_twice(
    url: str, engine: Engine
) -> None:
    store = EventStore(engine.log)
    synchronizer = ReadModelSynchronizer(store, engine.read_database)
    balances = synchronizer.add(Balances(), kind="inline")
    await synchronizer.prepare()
    await write(store, *(opened(f"a{number}") for number in range(10)))
    is_over = asyncio.Event()

    async def deposit(number: int) -> int:
        count = 0
        while not is_over.is_set():
            await write(store, deposited(f"a{number}"))
            count += 1
        return count

    depositing = [asyncio.create_task(deposit(number)) for number in range(10)]
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for _ in range(25):
            head = await store.head()
            await connection.execute(OTHER_WRITERS)
            async with asyncio.timeout(30):
                while await store.head() == head:  # noqa: ASYNC110  # nothing signals it
                    await asyncio.sleep(0)
    is_over.set()
    counts = await asyncio.gather(*depositing)
    found = await rows(balances)
    assert found == await fresh(store)
    assert {account: row.changes for account, row in found.items()} == {
        f"a{n}": count for n, count in enumerate(counts)
    }


async def test_an_append_gives_up_when_somebody_holds_a_segment_and_nothing_of_it_is_stored(
    url: str, engine_with: Callable[..., Awaitable[Engine]]
) -> None:
    engine = await engine_with(inline_lock_timeout=0.1)
    store = EventStore(engine.log)
    synchronizer = ReadModelSynchronizer(store, engine.read_database)
    balances = synchronizer.add(Balances(), kind="inline")
    await synchronizer.prepare()
    async with await psycopg.AsyncConnection.connect(url) as frozen:
        await frozen.execute("SELECT 1 FROM twofold_checkpoints FOR UPDATE")
        with pytest.raises(StorageUnavailableError, match="gave up waiting"):
            await write(store, opened("a"))
    assert await store.head() == 0
    await write(store, opened("a"))
    assert await balances.get("a") == Balance("a", "ann")


async def test_the_log_does_not_stay_locked_when_a_process_freezes_over_a_fold(
    url: str, engine_with: Callable[..., Awaitable[Engine]]
) -> None:
    engine = await engine_with(inline_idle_timeout=0.1)

    def until_nobody_is_idle() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while connection.execute(IDLE).fetchone() != (0,):
                pass
            freezing.set()

    class Freezing(Balances):
        @on(Deposited)
        def deposited(self, row: Balance, event: Deposited) -> Balance:
            if not freezing.is_set():
                threading.Thread(target=until_nobody_is_idle).start()
                freezing.wait()  # the whole process stands still: the server ends the transaction
            return super().deposited(row, event)

    freezing = threading.Event()
    store = EventStore(engine.log)
    synchronizer = ReadModelSynchronizer(store, engine.read_database)
    balances = synchronizer.add(Freezing(), kind="inline")
    await synchronizer.prepare()
    await write(store, opened("a"))
    assert await write(store, deposited("a", 5)) == 2
    assert await balances.get("a") == Balance("a", "ann", Decimal(5), 1)
