"""Machines that work unseen hold nothing up: slow code of the user's gives the event loop and SQLite's lock back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.projections.test_slow_folds import (
    HELD_UP,
    MANY,
    SLOW,
    Count,
    Noted,
    SlowCounts,
    SlowSql,
    append_times,
    longest_pause,
)
from tests.synchronizing import PATIENCE, engine_at, quick, running, until, write

from twofold import Event, Projection, ReadModelSynchronizer, event_type, on

FEW = 60
"""So many slow events take 1.2 s, more than twice as long as anything may be held up."""


class SlowKeys(SlowCounts):
    """What is slow is to find the key."""

    name = "slow_keys"

    def key(self, event: Noted) -> str:
        time.sleep(SLOW)
        return event.account

    @on(Noted)
    def noted(self, row: Count | None, event: Noted) -> Count:
        row = row or Count(event.account)
        return replace(row, number=row.number + 1)


class Mended:
    """Code that fails until it is mended, and is slow from then on."""

    is_mended = False

    def check(self) -> None:
        if not self.is_mended:
            raise ValueError("not mended")


class MendedSql(SlowSql, Mended):
    name = "mended_sql"
    tables = ("mended_notes",)

    def key(self, event: Noted) -> str:
        return event.account

    def create(self, connection: Any) -> Any:
        return connection.execute(f"CREATE TABLE {self.table('mended_notes')} (account TEXT)")

    def apply(self, event: Noted, connection: Any) -> Any:
        self.check()
        time.sleep(SLOW)
        return connection.execute(f"INSERT INTO {self.table('mended_notes')} VALUES ('{event.account}')")


class MendedCounts(SlowCounts, Mended):
    name = "mended_counts"

    @on(Noted)
    def noted(self, row: Count | None, event: Noted) -> Count:
        self.check()
        return super().noted(row, event)


@dataclass(frozen=True, kw_only=True)
class Renamed(Event):
    account: str
    text: str


def upcast_slowly(data: dict[str, Any]) -> dict[str, Any]:
    time.sleep(SLOW)
    return data | {"text": ""}


event_type("Noted", version=2, upcasters={1: upcast_slowly})(Renamed)


class Renaming(Projection[Count]):
    name = "renaming"

    def key(self, event: Renamed) -> str:
        return event.account

    @on(Renamed)
    def noted(self, row: Count | None, event: Renamed) -> Count:
        row = row or Count(event.account)
        return replace(row, number=row.number + 1)


@asynccontextmanager
async def held_up(url: str) -> AsyncIterator[None]:
    """Fail if the event loop, or the appends of another process, are held up within the block."""
    done = asyncio.Event()
    async with engine_at(url) as (_, other), longest_pause() as longest:
        appending = asyncio.create_task(append_times(other, done))
        await asyncio.sleep(0.01)  # so that both have begun
        yield
        done.set()
        times = await appending
    assert longest[0] < HELD_UP, "the event loop"
    assert max(times) < HELD_UP, "an append"


# -- slow code --------------------------------------------------------------------------------------------------


async def test_slow_keys_hold_nothing_up(url: str) -> None:
    async with engine_at(url) as (engine, store):
        await write(store, *(Noted(account=str(n % 3)) for n in range(FEW)))
        synchronizer = ReadModelSynchronizer(store, engine.read_database)
        counts = synchronizer.add(SlowKeys())
        async with held_up(url), running(synchronizer):
            await synchronizer.wait(FEW, PATIENCE)
        assert [await counts.get(str(n)) for n in range(3)] == [Count("0", 20), Count("1", 20), Count("2", 20)]


async def test_slow_upcasters_hold_nothing_up_where_events_are_read_followed_and_folded(url: str) -> None:
    async with engine_at(url) as (_, old):
        await write(old, *(Noted(account=str(n % 3)) for n in range(FEW)))
    async with engine_at(url) as (engine, store):
        synchronizer = ReadModelSynchronizer(store, engine.read_database)
        counts = synchronizer.add(Renaming())
        async with held_up(url):
            assert len([each async for each in store.read(before=FEW + 1)]) == FEW
        async with held_up(url):
            assert len((await anext(store.subscribe())).events) == FEW
        async with held_up(url), running(synchronizer):
            await synchronizer.wait(FEW, PATIENCE)
        assert [await counts.get(str(n)) for n in range(3)] == [Count("0", 20), Count("1", 20), Count("2", 20)]


@pytest.mark.parametrize("projection", [MendedSql, MendedCounts])
async def test_a_retry_of_many_parked_events_holds_nothing_up_and_loses_none(
    url: str, projection: type[MendedSql] | type[MendedCounts]
) -> None:
    async with engine_at(url) as (engine, store):
        await write(store, *(Noted(account=str(n % 30)) for n in range(FEW)))
        synchronizer = ReadModelSynchronizer(store, engine.read_database, options=quick(retries=0))
        mended = projection()
        synchronizer.add(mended)

        async def is_over() -> bool:
            [status] = await synchronizer.status()
            return not status.parked

        async with running(synchronizer):
            await synchronizer.wait(FEW, PATIENCE)
            mended.is_mended = True
            async with held_up(url):
                await synchronizer.control(projection.name).retry()
                await until(is_over)
        sums = {"mended_sql": "count(*) FROM mended_notes", "mended_counts": "sum(number) FROM mended_counts"}
        assert await engine.read_database.query(f"SELECT {sums[projection.name]}") == [(FEW,)]


async def test_appends_with_a_slow_inline_projection_let_other_processes_have_their_turn(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/twofold.db"  # on PostgreSQL, a group of appends is one call, and takes its time
    async with engine_at(url) as (engine, store):
        synchronizer = ReadModelSynchronizer(store, engine.read_database)
        counts = synchronizer.add(SlowCounts(), kind="inline")
        await synchronizer.prepare()
        await write(store, Noted(account="a"))  # how long it takes is known from now on
        done = asyncio.Event()
        async with engine_at(url) as (_, other), longest_pause() as longest:
            appending = asyncio.create_task(append_times(other, done))
            await asyncio.gather(*(write(store, Noted(account="a")) for _ in range(2 * MANY)))
            done.set()
            times = await appending
        assert await counts.get("a") == Count("a", 2 * MANY + 1)
        assert longest[0] < HELD_UP
        assert len(times) >= 8, "in 4 s, while the lock is held for 0.1 s at a time"


async def test_an_append_of_very_many_events_lets_the_event_loop_go_on(url: str) -> None:
    events, pauses = [Noted(account="a" * 3000) for _ in range(20_000)], []
    async with engine_at(url) as (_, store):
        for attempt in range(1, 4):  # other processes on the machine hold the loop up, too, but not each time
            async with longest_pause() as longest:
                await asyncio.sleep(0.01)
                receipt = await store.append(events)
            assert receipt.position == attempt * len(events)
            pauses.append(longest[0])
            if longest[0] < HELD_UP:
                break
        assert min(pauses) < HELD_UP
