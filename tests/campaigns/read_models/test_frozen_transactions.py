"""A worker is frozen within an open transaction of PostgreSQL: the others wait for a lease or two, and then go on."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.accounts import Deposited
from tests.campaigns.read_models.crew import Member, Plan, arm, deposit, freezing, within, work
from tests.campaigns.read_models.trails import POISON, Tallies, freeze, fresh_tallies
from tests.synchronizing import engine_at

from twofold import ReadModelSynchronizer, RecordedEvent
from twofold.errors import NoWorkerError
from twofold.options import SynchronizerOptions
from twofold.ports.checkpoints import SQL
from twofold.synchronizer.leases import Leases

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux"),
    pytest.mark.parametrize("url", ["postgres"], indirect=True),
]
HERE = POISON + 1
"""Freezes whoever takes it with a transaction open, and not the keyed projection, which has none."""
PATIENCE = 15.0
"""Seconds for all that is to be done while one is frozen: some leases, on a machine that does other things as well."""


def in_its_sql() -> None:
    """Freeze when the SQL of an event is done and its transaction is open."""
    apply = Tallies.apply

    async def then_freeze(self: Tallies, event: Deposited, connection: Any, recorded: RecordedEvent[Deposited]) -> None:
        await apply(self, event, connection, recorded)
        if event.amount == HERE:
            freeze(freezing(event.account), self._folder)

    Tallies.apply = then_freeze  # type: ignore[method-assign]


def in_its_turn(folder: Path) -> None:
    """Freeze while all segments are locked."""
    settle = Leases._settle

    async def freeze_first(self: Leases, *arguments: Any) -> Any:
        freeze(freezing("any"), folder)
        return await settle(self, *arguments)

    Leases._settle = freeze_first  # type: ignore[assignment]


def in_its_sql_without_a_limit() -> None:
    """The planted bug: a transaction stays for as long as its process is there."""
    from twofold.engines.postgres import connections

    in_its_sql()
    connections._BEGIN = "BEGIN; SET LOCAL application_name = '{}'"


async def campaign(plan: Plan) -> None:
    """Freeze one of two workers, append, rebuild and reset, then wake it.

    Raises:
        TimeoutError: something waited for the frozen one.
        AssertionError: the rows are not those of the log.
    """
    chance = random.Random(1)
    async with engine_at(plan.url) as (engine, store):
        synchronizer = ReadModelSynchronizer(
            store,
            engine.read_database,
            [Tallies()],
            options=SynchronizerOptions(lease=plan.lease),
            changed_code="ignore",
        )
        await synchronizer.prepare()
        workers = [Member(work, plan) for _ in range(2)]
        try:
            await synchronizer.wait((await store.append([deposit(chance) for _ in range(20)])).position, PATIENCE)
            arm(plan.folder)
            head = (
                await store.append([Deposited(account="a1", amount=HERE), *(deposit(chance) for _ in range(20))])
            ).position
            assert await within(PATIENCE, partial(_any_is_frozen, workers)), "no worker came to the point"
            async with asyncio.timeout(PATIENCE):
                await synchronizer.rebuild_projection("tallies")
                await synchronizer.wait(head, PATIENCE)
                await synchronizer.control("tallies").reset()
                await synchronizer.wait(head, PATIENCE)
            for each in workers:
                each.wake()
            await synchronizer.wait((await store.append([deposit(chance)])).position, PATIENCE)
            rows = await engine.read_database.query("SELECT account, count, chain FROM tallies")
            assert {row[0]: tuple(row[1:]) for row in rows} == await fresh_tallies(store, set())
            assert await engine.read_database.query(SQL["parked_counts"]) == []
            for each in workers:
                each.check()
        finally:
            for each in workers:
                each.kill()


async def _any_is_frozen(workers: list[Member]) -> bool:
    return any(each.stopped for each in workers)


@pytest.fixture
def plan(url: str, tmp_path: Path) -> Plan:
    return Plan(url, tmp_path, lease=1.0)


@pytest.mark.parametrize("where", ["in its sql", "in its turn"])
async def test_nobody_waits_for_longer_for_a_worker_that_is_frozen_in_a_transaction(plan: Plan, where: str) -> None:
    freezes = in_its_sql if where == "in its sql" else partial(in_its_turn, plan.folder)
    await campaign(Plan(plan.url, plan.folder, lease=plan.lease, planted=freezes))


async def test_a_transaction_that_nobody_ends_is_found_out(plan: Plan) -> None:
    with pytest.raises((TimeoutError, NoWorkerError)):  # the rebuild waits for the frozen one, and says so by name
        await campaign(Plan(plan.url, plan.folder, lease=plan.lease, planted=in_its_sql_without_a_limit))
