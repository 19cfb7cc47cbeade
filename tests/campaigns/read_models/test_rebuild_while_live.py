"""Read models are rebuilt, rolled back and brought to new versions under live writes, and nobody who reads notices."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.campaigns.read_models.crew import Member, Plan, deposit, within, work, write
from tests.campaigns.read_models.trails import Trail, edition, fresh_fold, skipped_in
from tests.child_processes import CONTEXT
from tests.synchronizing import engine_at

from twofold import EventStore, ReadModel, ReadModelSynchronizer
from twofold.engines.engine import Engine
from twofold.ports.checkpoints import SQL, Generation, GenerationState, generations_now

Switch = Callable[["Campaign"], Awaitable[None]]
BULK = 10_000
NEVER_BUILT = 1_000_000
"""A version of the code that no worker has."""


class Reader:
    """Reads in every way there is, and remembers what it has seen."""

    def __init__(self, trails: ReadModel[Trail]) -> None:
        self._trails = trails
        self._seen: dict[str, int] = {}
        self._edition = self._sum = self.reads = 0

    async def read(self) -> None:
        """Read once in each way.

        Raises:
            AssertionError: a row or a sum went back, or an answer is of two versions.
        """
        page = await self._trails.page(sort="count", descending=True, page_size=30)
        self._check(list(page.items))
        row = await self._trails.get("a1")
        self._check([row] if row else [])
        [total] = await self._trails.totals(by=(), of="count")
        assert total.sum >= self._sum, f"the sum went back from {self._sum} to {total.sum}"
        self._sum = total.sum
        self.reads += 3

    def _check(self, rows: list[Trail]) -> None:
        editions = {row.edition for row in rows} or {self._edition}
        assert len(editions) == 1, f"one answer is of the versions {editions}"
        assert max(editions) >= self._edition, f"version {editions} came after {self._edition}"
        self._edition = max(editions)
        for row in rows:
            before = self._seen.get(row.account, 0)
            assert row.count >= before, f"{row.account} went back from {before} events to {row.count}"
            self._seen[row.account] = row.count


def read_throughout(plan: Plan, answer: object) -> None:
    """Read until there is a file `read`, then send how often that was, and what was wrong."""
    asyncio.run(_read_throughout(plan, answer))


async def _read_throughout(plan: Plan, answer: object) -> None:
    async with engine_at(plan.url) as (engine, store):
        # This version is never built: such a reader takes what serves, for the rows of all versions look alike.
        reader = Reader(ReadModelSynchronizer(store, engine.read_database).add(edition(NEVER_BUILT)()))
        complaint = ""
        try:
            await reader.read()
            answer.send("begun")  # type: ignore[attr-defined]
            while not (plan.folder / "read").exists():
                await reader.read()
                await asyncio.sleep(0.002)
        except Exception as error:
            complaint = repr(error)
        answer.send((reader.reads, complaint))  # type: ignore[attr-defined]


class Campaign:
    """What takes part."""

    def __init__(self, engine: Engine, store: EventStore, plan: Plan) -> None:
        self.plan = plan
        self._database, self._store = engine.read_database, store
        self._workers = [Member(work, plan) for _ in range(2)]
        self._adopt()

    def _adopt(self) -> None:
        """Have the code of the version that the workers have."""
        self.synchronizer = ReadModelSynchronizer(self._store, self._database)
        self.trails = self.synchronizer.add(edition(self.plan.version)())

    async def catch_up(self) -> None:
        """Wait until what serves has come to where the log ends now."""
        head = await self._store.head()

        async def caught_up() -> bool:
            live = await self._live()
            [(position,)] = await self._database.query(SQL["position_of"], name="trails", generation=live.number)
            return position is not None and position >= head

        assert await within(120, caught_up), f"the workers do not come to {head}"

    async def rebuild(self) -> None:
        await self.synchronizer.rebuild_projection("trails")

    async def roll_back(self) -> None:
        await self.synchronizer.control("trails").roll_back()

    async def upgrade(self) -> None:
        """Deploy a new version: its workers come, build it, and the old ones go."""
        self.plan = replace(self.plan, version=self.plan.version + 1)
        old, self._workers = self._workers, [Member(work, self.plan) for _ in range(2)]
        serves = await within(600, self._new_version_serves)
        assert serves, f"the new version does not come to serve: {await self.synchronizer.status()}"
        for each in old:
            each.kill()
        self._adopt()

    async def reset(self) -> None:
        """The planted bug: rebuild in place."""
        await self.synchronizer.control("trails").reset()
        await self.catch_up()

    def stop(self) -> None:
        for each in self._workers:
            each.kill()

    async def _new_version_serves(self) -> bool:
        return (await self._live()).version == self.plan.version

    async def _live(self) -> Generation:
        known = await generations_now(self._database, "trails")
        return next(
            (each for each in known if each.role == "serving"),
            Generation("", 0, 0, "", GenerationState.SERVING, 0, "", "", 0),
        )


async def campaign(plan: Plan, seed: int, events: int, switches: list[Switch], pace: float = 0.01) -> None:
    """Switch under live writes, each writer resting `pace` seconds in between, with readers throughout.

    Raises:
        AssertionError: a reader saw a failure, two versions at once or time go back, or the rows are not the log's.
    """
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with engine_at(plan.url) as (engine, store):
        for _ in range(events // BULK):
            await store.append([deposit(chance) for _ in range(BULK)])
        run = Campaign(engine, store, plan)
        writers, readers = [], []
        try:
            await run.catch_up()
            writers = [Member(write, plan, seed + number, pace, 0.0) for number in range(2)]
            for _ in range(2):
                here, there = CONTEXT.Pipe(duplex=False)
                readers.append((Member(read_throughout, plan, there), here))
            for _, answer in readers:
                assert answer.poll(60), "a reader does not begin"
                assert answer.recv() == "begun"
            for switch in switches:
                await switch(run)
            (plan.folder / "read").touch()
            for member, answer in readers:
                assert answer.poll(60), "a reader does not answer"
                reads, complaint = answer.recv()
                member.join()
                assert not complaint, f"seed {seed}: after {reads} reads: {complaint}"
                print(f"{reads} reads")
                assert reads > 10 * len(switches)
            (plan.folder / "written").touch()
            for each in writers:
                each.join()
            await run.catch_up()
            rows = {row.account: row for row in (await run.trails.page(page_size=1000)).items}
            skipped = await skipped_in(engine.read_database, "trails")
            assert rows == await fresh_fold(store, skipped, run.plan.version), f"seed {seed}"
        finally:
            run.stop()
            for each in (*writers, *(member for member, _ in readers)):
                each.kill()


def in_turns(count: int) -> list[Switch]:
    turns = itertools.cycle([Campaign.rebuild, Campaign.roll_back, Campaign.upgrade, Campaign.rebuild])
    return list(itertools.islice(turns, count))


@pytest.fixture
def plan(url: str, tmp_path: Path) -> Plan:
    return Plan(url, tmp_path, lease=1.0, batch_size=1000, with_sql=False)


async def test_readers_notice_nothing_of_rebuilds_roll_backs_and_new_versions(plan: Plan) -> None:
    await campaign(plan, random.randrange(2**32), 20_000, in_turns(4))


@pytest.mark.soak
async def test_readers_notice_nothing_of_very_many_switches(plan: Plan) -> None:
    # the log must not grow so fast that each rebuild takes longer than the one before
    await campaign(plan, random.randrange(2**32), 20_000, in_turns(100), pace=0.2)


@pytest.mark.soak
async def test_readers_notice_nothing_of_the_rebuild_of_a_million_events(plan: Plan) -> None:
    await campaign(plan, random.randrange(2**32), 1_000_000, in_turns(1))


async def test_a_rebuild_in_place_is_found_out(plan: Plan) -> None:
    with pytest.raises(AssertionError, match="went back"):
        await campaign(plan, 1, 10_000, [Campaign.reset])
