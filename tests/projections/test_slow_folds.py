"""Code that takes long for each event holds up neither the event loop nor the appends of others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any

from tests.synchronizing import PATIENCE, engine_at, opened, quick, running, until, write

from twofold import Event, EventStore, Key, Projection, ReadModelSynchronizer, SqlProjection, on
from twofold.engines.engine import scratch_database

SLOW = 0.02
"""Seconds that the code takes for one event."""
MANY = 60
"""Together these events take 1.2 s."""
HELD_UP = 0.5
"""Seconds; ten times what is promised, as the machine that runs the tests may be busy, and less than half of what the
events take together."""
LONG = 100
"""Together these events take 2 s, twice as long as anything may wait for a commit."""


@dataclass(frozen=True, kw_only=True)
class Noted(Event):
    account: str


@dataclass(frozen=True)
class Count:
    account: Annotated[str, Key()]
    number: int = 0


class SlowCounts(Projection[Count]):
    name = "slow_counts"

    @on(Noted)
    def noted(self, row: Count | None, event: Noted) -> Count:
        time.sleep(SLOW)
        row = row or Count(event.account)
        return replace(row, number=row.number + 1)


class SlowSql(SqlProjection):
    """Its SQL is quick; what it computes around it is not."""

    name = "slow_sql"
    tables = ("slow_notes",)

    def handles(self) -> tuple[type, ...]:
        return (Noted,)

    def create(self, connection: Any) -> Any:
        return connection.execute(f"CREATE TABLE {self.table('slow_notes')} (account TEXT)")

    def apply(self, event: Noted, connection: Any) -> Any:
        time.sleep(SLOW)
        insert = f"INSERT INTO {self.table('slow_notes')} VALUES ('{event.account}')"
        return connection.execute(insert)


class HangingSql(SlowSql):
    """One event never ends, after some that are done."""

    async def apply(self, event: Noted, connection: Any) -> None:
        await asyncio.sleep(SLOW if event.account != "10" else 3600)


@asynccontextmanager
async def longest_pause() -> AsyncIterator[list[float]]:
    """Measure for how long the event loop comes back to no other task."""
    longest = [0.0]

    async def beat() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.002)
            longest[0] = max(longest[0], time.monotonic() - before)

    task = asyncio.create_task(beat())
    try:
        yield longest
    finally:
        task.cancel()


async def append_times(store: EventStore, done: asyncio.Event) -> list[float]:
    """Append one event after the other until all is done, and return how long each took."""
    times = []
    while not done.is_set():
        began = time.monotonic()
        await write(store, opened("other"))
        times.append(time.monotonic() - began)
        await asyncio.sleep(0.01)
    return times


async def test_a_slow_fold_gives_the_event_loop_back(url: str) -> None:
    async with engine_at(url) as (engine, store):
        await write(store, *(Noted(account=str(n % 3)) for n in range(MANY)))
        synchronizer = ReadModelSynchronizer(store, engine.read_database)
        counts = synchronizer.add(SlowCounts())
        async with longest_pause() as longest, running(synchronizer):
            await synchronizer.wait(MANY, PATIENCE)
        assert [await counts.get(str(n)) for n in range(3)] == [Count("0", 20), Count("1", 20), Count("2", 20)]
        assert longest[0] < HELD_UP


async def test_a_slow_fold_of_many_events_commits_now_and_then(url: str) -> None:
    async with engine_at(url) as (engine, store):
        await write(store, *(Noted(account=str(n % 3)) for n in range(LONG)))
        synchronizer = ReadModelSynchronizer(store, engine.read_database)
        counts = synchronizer.add(SlowCounts())
        seen = set[int]()

        async def is_complete() -> bool:
            rows = (await counts.page()).items
            seen.add(sum(row.number for row in rows))
            return LONG in seen

        async with running(synchronizer):
            await synchronizer.prepare()
            await until(is_complete)
        steps = [after - before for before, after in pairwise(sorted(seen | {0}))]
        assert max(steps) <= 60, "a commit is due after a second"


async def test_slow_sql_lets_others_append_meanwhile(url: str) -> None:
    async with engine_at(url) as (engine, store):
        await write(store, *(Noted(account=str(n)) for n in range(MANY)))
        synchronizer = ReadModelSynchronizer(store, engine.read_database)
        synchronizer.add(SlowSql())
        done = asyncio.Event()
        async with engine_at(url) as (_, other), longest_pause() as longest, running(synchronizer):
            appending = asyncio.create_task(append_times(other, done))
            await synchronizer.wait(MANY, PATIENCE)
            done.set()
            times = await appending
        assert await engine.read_database.query("SELECT count(*) FROM slow_notes") == [(MANY,)]
        assert max(times) < HELD_UP
        assert longest[0] < HELD_UP


async def test_a_step_that_gets_on_may_take_many_times_its_limit(url: str) -> None:
    async with engine_at(url) as (engine, store):
        await write(store, *(Noted(account=str(n)) for n in range(MANY)))
        synchronizer = ReadModelSynchronizer(store, engine.read_database, options=quick(time_limit=0.2))
        synchronizer.add(SlowSql())

        async def is_complete() -> bool:
            [status] = await synchronizer.status()
            assert not any(each.error for each in status.segments)
            return status.position == MANY

        async with running(synchronizer):
            await synchronizer.prepare()
            await until(is_complete)


async def test_a_step_with_an_event_that_hangs_is_given_up_though_others_got_on(url: str) -> None:
    async with engine_at(url) as (engine, store):
        await write(store, *(Noted(account=str(n)) for n in range(20)))
        synchronizer = ReadModelSynchronizer(store, engine.read_database, options=quick(time_limit=0.2))
        synchronizer.add(HangingSql())

        async def is_told() -> bool:
            [status] = await synchronizer.status()
            return any("a step of" in each.error for each in status.segments)

        async with running(synchronizer):
            await synchronizer.prepare()
            await until(is_told)


async def test_a_slow_projection_on_demand_gives_the_event_loop_back(url: str) -> None:
    async with engine_at(url) as (engine, store):
        await write(store, *(Noted(account="a") for _ in range(MANY)))
        synchronizer = ReadModelSynchronizer(store, engine.read_database, scratch=scratch_database)
        counts = synchronizer.add(SlowCounts(), kind="on_demand")
        async with longest_pause() as longest:
            assert await counts.get("a") == Count("a", MANY)
        await synchronizer.close()
        assert longest[0] < HELD_UP


async def test_an_append_does_not_fold_what_others_left_if_that_takes_long(url: str) -> None:
    async with engine_at(url) as (engine, store):
        synchronizer = ReadModelSynchronizer(store, engine.read_database)
        counts = synchronizer.add(SlowCounts(), kind="inline")
        await synchronizer.prepare()
        await write(store, Noted(account="a"))  # how long it takes is known from now on
        async with engine_at(url) as (_, other):  # which does not know the projection
            await write(other, *(Noted(account="a") for _ in range(MANY)))
        began = time.monotonic()
        await write(store, Noted(account="b"))
        assert time.monotonic() - began < HELD_UP
        async with running(synchronizer):
            await synchronizer.wait(MANY + 2, PATIENCE)
        assert [await counts.get("a"), await counts.get("b")] == [Count("a", MANY + 1), Count("b", 1)]
