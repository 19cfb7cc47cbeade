"""Leases go by the clock of the database: a worker whose own clock jumps takes nothing and loses nothing."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.campaigns.planted import assert_finds
from tests.campaigns.read_models.crew import Member, Plan, deposit, within, work
from tests.campaigns.read_models.trails import Trails, fresh_fold
from tests.synchronizing import engine_at

from twofold import ReadModelSynchronizer
from twofold.ports.checkpoints import SQL

JUMPS = (3600, -3600, 86_400, -86_400)


def with_a_clock_that_jumps() -> None:
    """Let this process's clock jump by hours, forth and back, several times a second."""
    real_time, real_time_ns, chance = time.time, time.time_ns, random.Random()
    state = {"until": 0.0, "offset": 0}

    def offset() -> int:
        if real_time() > state["until"]:
            state["until"], state["offset"] = real_time() + 0.1, chance.choice(JUMPS)
        return int(state["offset"])

    time.time = lambda: real_time() + offset()
    time.time_ns = lambda: real_time_ns() + offset() * 1_000_000_000


def with_leases_by_that_clock() -> None:
    """The planted bug: the times of leases are those of the process."""
    from twofold.engines.postgres.read_models.transaction import PostgresReadTransaction

    with_a_clock_that_jumps()
    run = PostgresReadTransaction.run

    async def by_the_own_clock(self: Any, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        return await run(self, sql.replace("twofold_now()", str(time.time_ns() // 1000)), **values)

    PostgresReadTransaction.run = by_the_own_clock  # type: ignore[method-assign]


async def campaign(plan: Plan, seed: int, jumps: int) -> None:
    """Let the clock of one of two workers jump while both work, then compare the rows with the log.

    Raises:
        AssertionError: a segment went from one to the other, or the rows are not those of the log.
    """
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with engine_at(plan.url) as (engine, store):
        synchronizer = ReadModelSynchronizer(store, engine.read_database)
        trails = synchronizer.add(Trails())
        await synchronizer.prepare()
        await synchronizer.control("trails").scale(2)
        workers = [Member(work, replace(plan, planted=None)), Member(work, plan)]

        async def holders() -> list[tuple[str, int]]:
            return [(row[7], row[6]) for row in await engine.read_database.query(SQL["checkpoints"])]

        async def shared() -> bool:
            return len({owner for owner, _ in await holders() if owner}) == 2

        try:
            # SQLite has no clock of its own; all processes are on one machine, and there only the rows count.
            has_a_clock = plan.url.startswith("postgresql")
            assert not has_a_clock or await within(15, shared), "the workers do not share the work"
            before = await holders()
            for _ in range(jumps):
                receipt = await store.append([deposit(chance) for _ in range(20)])
                await synchronizer.wait(receipt.position, 30)
                await asyncio.sleep(0.1)  # the time between two jumps
            assert not has_a_clock or await holders() == before, f"seed {seed}: a segment changed hands"
            rows = {row.account: row for row in (await trails.page(page_size=1000)).items}
            assert rows == await fresh_fold(store, set()), f"seed {seed}"
        finally:
            for each in workers:
                each.kill()


@pytest.fixture
def plan(url: str, tmp_path: Path) -> Plan:
    return Plan(url, tmp_path, lease=5.0, with_sql=False, planted=with_a_clock_that_jumps)


async def test_a_clock_that_jumps_changes_nothing(plan: Plan) -> None:
    await campaign(plan, random.randrange(2**32), 10)


@pytest.mark.soak
async def test_a_clock_that_jumps_very_often_changes_nothing(plan: Plan) -> None:
    await campaign(plan, random.randrange(2**32), 200)


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
async def test_leases_by_the_workers_own_clock_are_found_out(plan: Plan) -> None:
    planted = replace(plan, planted=with_leases_by_that_clock)
    await assert_finds(lambda seed: campaign(planted, seed, 20), r"changed hands|do not share")
