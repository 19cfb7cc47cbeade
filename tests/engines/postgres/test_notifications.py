"""A notification only wakes: what it says is never believed, whoever sent it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from tests.accounts import Balances
from tests.synchronizing import PATIENCE, deposited, engine_at, opened, running, until, write

from twofold import EventStore, ReadModelSynchronizer
from twofold.engines.engine import Engine
from twofold.errors import StaleReadError
from twofold.messages.event_query import EventQuery
from twofold.options import Options, PostgresOptions
from twofold.ports.event_log import EventLog
from twofold.ports.positions import Positions

OPTIONS = Options(postgres=PostgresOptions(poll=0.1))
PAYLOADS = [
    "1000000",
    "-5",
    "",
    "no number",
    "99999999999999999999999999",
    "1e3",
    "[]",
    "null",
    '{"a":',
    "\u20ac",
    "1" * 7000,
]
MIGHTY_STEPS = [
    json.dumps(["balances", 1, 0, 256, 1_000_000, 1_000_000]),
    json.dumps(["balances", 1, 0, 256, 0, 1_000_000]),
    json.dumps(["balances"]),
    json.dumps({"name": "balances"}),
]


@pytest_asyncio.fixture
async def engine(url: str) -> AsyncIterator[Engine]:
    async with engine_at(url, OPTIONS) as (engine, _):
        yield engine


async def forge(url: str, payloads: list[str]) -> None:
    """Send notifications as a role that may connect, and nothing else, on both channels."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as owner:
        await owner.execute("DROP ROLE IF EXISTS stranger")
        await owner.execute("CREATE ROLE stranger LOGIN")
        channels = await (
            await owner.execute("SELECT 'twofold_' || t::regclass::oid FROM unnest(%s::text[]) AS t", (TABLES,))
        ).fetchall()
    async with await psycopg.AsyncConnection.connect(
        url.replace("postgres@", "stranger@"), autocommit=True
    ) as stranger:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await stranger.execute("SELECT FROM twofold_events")
        for (channel,) in channels:
            for payload in payloads:
                await stranger.execute("SELECT pg_notify(%s, %s)", (channel, payload))


TABLES = ["twofold_events", "twofold_checkpoints"]


async def listening(url: str, looks: str, count: int = 1) -> None:
    """Wait until the listener has looked for the first time, which it does once it listens."""
    sql = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE %s AND state = 'idle'"
    )
    async with asyncio.timeout(PATIENCE), await psycopg.AsyncConnection.connect(url, autocommit=True) as looker:
        while (await (await looker.execute(sql, [looks])).fetchone() or (0,))[0] < count:  # noqa: ASYNC110  # no signal
            await asyncio.sleep(0.01)


HEADS, STEPS = "SELECT coalesce((SELECT position%", "SELECT name, generation, first_slot%"
TWO = 2  # the pool's, which has asked for the head, and the listener's


async def test_a_forged_head_wakes_and_is_not_believed(url: str, engine: Engine) -> None:
    store = EventStore(engine.log)
    head = await write(store, opened("a"))
    assert await store.head() == head
    waiting = asyncio.create_task(engine.log.wait(head, PATIENCE))
    await listening(url, HEADS, TWO)
    await forge(url, PAYLOADS)
    await asyncio.sleep(0.3)  # the notifications are on their way
    assert not waiting.done()
    assert await store.head() == head
    assert await write(store, deposited("a")) == head + 1
    assert await waiting == head + 1


async def test_a_subscription_skips_nothing_after_a_forged_head(url: str, engine: Engine) -> None:
    store = EventStore(engine.log)
    await write(store, opened("a"))
    await store.head()
    waiting = asyncio.create_task(engine.log.wait(1, PATIENCE))
    await listening(url, HEADS, TWO)
    await forge(url, ["1000000"])
    await asyncio.sleep(0.3)  # the notification is on its way
    assert not waiting.done()
    async with engine_at(url) as (other, _):
        await write(EventStore(other.log), deposited("a"), deposited("a"))
    assert await waiting == 3
    assert [row.position for row in await engine.log.read(EventQuery.all(), limit=10)] == [1, 2, 3]
    assert await engine.log.wait(1, PATIENCE) == 3


async def looks_of(log: EventLog, work: Callable[[], Awaitable[object]], wanted: int = 0) -> int:
    """Return how often a log's listener reads the head while work is done, and for a moment after or until it has."""
    subject, looks = log._listener._subject, 0  # type: ignore[attr-defined]  # the engine is PostgreSQL
    look = subject.look

    async def counted(connection: Any) -> None:
        nonlocal looks
        looks += 1
        await look(connection)

    async def as_wanted() -> bool:
        return looks >= wanted

    subject.look = counted
    await work()
    if wanted:
        await until(as_wanted)
    else:
        await asyncio.sleep(0.3)
    return looks


async def test_what_this_process_has_appended_is_not_looked_up_and_what_others_append_is(url: str) -> None:
    async with engine_at(url, Options(postgres=PostgresOptions(poll=3600))) as (engine, store):
        await write(store, opened("a"))
        await store.head()
        waiting = asyncio.create_task(engine.log.wait(7, 20))
        await listening(url, HEADS, TWO)

        async def append_here() -> None:
            for _ in range(5):
                await write(store, deposited("a"))

        async def append_there() -> None:
            async with engine_at(url) as (_, other):
                await write(other, deposited("a"), deposited("a"))

        assert await looks_of(engine.log, append_here) == 0
        assert not waiting.done()
        assert await looks_of(engine.log, append_there, wanted=1) > 0
        assert await waiting == 8


async def test_an_append_whose_answer_is_lost_is_looked_up(url: str) -> None:
    async with engine_at(url, Options(postgres=PostgresOptions(poll=3600))) as (engine, store):
        await write(store, opened("a"))
        await store.head()
        waiting = asyncio.create_task(engine.log.wait(10, 60))
        await listening(url, HEADS, TWO)

        async def append_on_a_connection_that_ends() -> None:
            wire = engine.log._writer._wire  # type: ignore[attr-defined]  # the engine is PostgreSQL
            pid = wire.connection.pgconn.backend_pid
            is_held_up = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s"
            async with (
                await psycopg.AsyncConnection.connect(url) as holder,
                await psycopg.AsyncConnection.connect(url, autocommit=True) as admin,
            ):
                await holder.execute("SELECT FROM twofold_head FOR UPDATE")
                appending = asyncio.create_task(write(store, deposited("a")))
                while await (await admin.execute(is_held_up, (pid,))).fetchone() != (True,):  # noqa: ASYNC110  # no signal
                    await asyncio.sleep(0.01)
                await admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
                await holder.rollback()
                await appending

        assert await looks_of(engine.log, append_on_a_connection_that_ends, wanted=1) > 0
        waiting.cancel()


async def test_a_forged_step_makes_nobody_see_what_is_not_there(url: str, engine: Engine) -> None:
    store = EventStore(engine.log)
    synchronizer = ReadModelSynchronizer(store, engine.read_database)
    balances = synchronizer.add(Balances())
    await synchronizer.prepare()
    position = await write(store, opened("a"))
    waiting = asyncio.create_task(synchronizer.wait(position, PATIENCE))
    await listening(url, STEPS)
    await forge(url, MIGHTY_STEPS + PAYLOADS)
    with pytest.raises(StaleReadError):
        await synchronizer.wait(position, 0.5)
    assert not waiting.done()
    [status] = await synchronizer.status()
    assert status.position == 0
    async with running(synchronizer):
        await waiting
    assert await balances.get("a") is not None
    await synchronizer.close()


async def test_what_an_engine_tells_of_steps_is_what_the_table_says(url: str, engine: Engine) -> None:
    synchronizer = ReadModelSynchronizer(EventStore(engine.log), engine.read_database)
    synchronizer.add(Balances())
    await synchronizer.prepare()
    positions = Positions()
    watermark = positions.watermark("balances", 1)
    waiting = asyncio.create_task(watermark.wait(0, PATIENCE))
    await asyncio.sleep(0)
    engine.read_database.follow(positions)
    await listening(url, STEPS)
    await forge(url, MIGHTY_STEPS + PAYLOADS)
    await asyncio.sleep(0.3)  # the notifications are on their way
    assert not waiting.done()
    assert watermark.position == 0
    waiting.cancel()
    await synchronizer.close()


async def test_checkpoints_do_not_move_by_forged_notifications(url: str, engine: Engine) -> None:
    store = EventStore(engine.log)
    synchronizer = ReadModelSynchronizer(store, engine.read_database)
    balances = synchronizer.add(Balances())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        await forge(url, MIGHTY_STEPS + PAYLOADS)
        await synchronizer.wait(await write(store, deposited("a")), PATIENCE)
        assert await engine.read_database.query("SELECT max(position) FROM twofold_checkpoints") == [(2,)]
        await forge(url, MIGHTY_STEPS + PAYLOADS)
        await synchronizer.wait(await write(store, deposited("a")), PATIENCE)
    row = await balances.get("a")
    assert row is not None
    assert row.changes == 2
    await synchronizer.close()
