"""Workers are frozen in the middle of a step, others take over, and what the frozen ones do afterwards is refused."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest
from tests.accounts import Deposited
from tests.campaigns.planted import assert_finds
from tests.campaigns.read_models.crew import Member, Plan, arm, freezing, within, work
from tests.campaigns.read_models.trails import POISON, Trails, fresh_fold
from tests.synchronizing import engine_at, until

from twofold import EventStore, ReadModelSynchronizer
from twofold.engines.engine import Engine
from twofold.ports.checkpoints import SQL
from twofold.synchronizer import leases
from twofold.synchronizer.leases import new_worker

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")


class Campaign:
    """Two workers, one of which freezes in each round, in a step or while it retries what was parked."""

    def __init__(self, engine: Engine, store: EventStore, plan: Plan, seed: int) -> None:
        self._database = engine.read_database
        self._store = store
        self._plan = plan
        self._chance = random.Random(seed)
        self._synchronizer = ReadModelSynchronizer(store, engine.read_database, [Trails()])
        self.frozen = 0

    async def run(self, rounds: int, *, with_retries: bool) -> None:
        await self._synchronizer.prepare()
        await self._synchronizer.control("trails").scale(2)
        workers = [Member(work, self._plan) for _ in range(2)]
        try:
            for number in range(rounds):
                if with_retries and number % 2:
                    await self._frozen_while_retrying(workers)
                else:
                    await self._frozen_in_a_step(workers)
            await until(self._caught_up)
        finally:
            for each in workers:
                each.kill()

    async def _frozen_in_a_step(self, workers: list[Member]) -> None:
        arm(self._plan.folder)
        account = self._account()
        await self._store.append([freezing(account), *(self._deposit() for _ in range(self._chance.randrange(20)))])
        await self._over_its_lease(workers)

    async def _frozen_while_retrying(self, workers: list[Member]) -> None:
        """Its step does not move the checkpoint; if nothing is written, only the epoch tells that it comes too late."""
        account, mended = self._account(), self._plan.folder / "mended"
        later = Deposited(account=account, amount=POISON - 1)
        await self._store.append([Deposited(account=account, amount=POISON), freezing(account), later])
        await until(self._caught_up)
        assert len(await self._synchronizer.control("trails").parked()) == 3
        mended.touch()
        arm(self._plan.folder)
        await self._synchronizer.control("trails").retry()
        await self._over_its_lease(workers)
        await until(self._nothing_parked)
        mended.unlink()

    async def _over_its_lease(self, workers: list[Member]) -> None:
        """Wait until the frozen one's work is done by the other one, then wake it."""

        async def one_is_frozen() -> bool:
            for each in workers:
                each.check()
            return any(each.stopped for each in workers)

        async def taken_over() -> bool:
            return await self._caught_up() and await self._nothing_parked()

        assert await within(20, one_is_frozen), "no worker came to the event"
        self.frozen += await within(3, taken_over)  # not so if it froze while it held SQLite's lock
        for each in workers:
            each.wake()

    async def _caught_up(self) -> bool:
        rows = await self._database.query(SQL["checkpoints"])
        head = await self._store.head()
        return all(row[4] >= head for row in rows)

    async def _nothing_parked(self) -> bool:
        return not await self._database.query(SQL["parked_counts"])

    def _account(self) -> str:
        return f"a{self._chance.randrange(10)}"

    def _deposit(self) -> Deposited:
        return Deposited(account=self._account(), amount=POISON - 1)


async def campaign(plan: Plan, seed: int, rounds: int, *, with_retries: bool = True) -> None:
    """Freeze workers, then compare the read models with a fold of the log.

    Raises:
        AssertionError: a frozen worker did something after it was woken, or the campaign did not come to its point.
    """
    print(f"seed {seed}")
    async with engine_at(plan.url) as (engine, store):
        run = Campaign(engine, store, plan, seed)
        await run.run(rounds, with_retries=with_retries)
        assert run.frozen > rounds / 6, f"seed {seed}: only {run.frozen} of {rounds} were taken over"
        trails = ReadModelSynchronizer(store, engine.read_database).add(Trails())
        rows = {row.account: row for row in (await trails.page(page_size=1000)).items}
        assert rows == await fresh_fold(store, set()), f"seed {seed}: the rows are not those of the log"


def without_epoch() -> None:
    """The planted bug: whoever finds the checkpoint where it was may move it."""
    from twofold.engines.postgres import rows as on_postgres

    for name in ("take_step", "take_step_of_log"):
        SQL[name] = SQL[name].replace(" AND epoch = :epoch", "")  # of SQLite, which looks it up each time
        on_postgres._TAKE_STEP[name] = on_postgres._TAKE_STEP[name].replace(" AND epoch = %(epoch)s", "")


def all_of_one_name() -> None:
    """Let every worker think that it is this one."""
    name = "one-machine:0:one-name"
    leases.new_worker = lambda: name
    from twofold.synchronizer import worker

    worker.new_worker = leases.new_worker  # type: ignore[attr-defined]


@pytest.fixture
def plan(url: str, tmp_path: Path) -> Plan:
    return Plan(url, tmp_path, lease=0.2, retried=2, with_sql=False)


async def test_a_frozen_worker_commits_nothing_after_another_took_over(plan: Plan) -> None:
    await campaign(plan, random.randrange(2**32), 25)


@pytest.mark.soak
async def test_very_many_frozen_workers_commit_nothing(plan: Plan) -> None:
    await campaign(plan, random.randrange(2**32), 1000)


async def test_two_workers_of_one_name_apply_nothing_twice(plan: Plan) -> None:
    await campaign(replace(plan, planted=all_of_one_name), random.randrange(2**32), 6, with_retries=False)


async def test_a_step_that_does_not_look_at_the_epoch_is_found_out(plan: Plan) -> None:
    await assert_finds(lambda seed: campaign(replace(plan, planted=without_epoch), seed, 6), "not those of the log")


async def test_no_worker_is_ever_named_like_another() -> None:
    names = await asyncio.gather(*(asyncio.to_thread(new_worker) for _ in range(100)))
    assert len(set(names)) == 100
