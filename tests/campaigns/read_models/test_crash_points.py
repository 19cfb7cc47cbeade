"""A process dies at each point of its work on a read model in turn; the next one goes on, and nothing shows of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.accounts import Deposited
from tests.campaigns.read_models.mortal import MortalReadDatabase
from tests.campaigns.read_models.trails import POISON, Tallies, Trail, Trails
from tests.campaigns.read_models.victim import InTwoTransactions
from tests.synchronizing import engine_at, quick, until

from twofold import EventStore, ReadModelSynchronizer, RecordedEvent, on
from twofold.ports.checkpoints import SQL
from twofold.ports.read_database import ReadDatabase

HUGE = POISON + 1
"""Makes a row that no engine can store."""
TOO_LARGE = 1 << 70
LONG_PATIENCE = 300.0
"""Seconds for one life: at full length the campaign takes minutes, in some of which a disk may do nothing else."""


class Fragile(Trails):
    """Makes a row now and then that cannot be stored, so that a batch is taken apart."""

    @on(Deposited)
    def deposited(self, row: Trail | None, event: Deposited, recorded: RecordedEvent[Deposited]) -> Trail:
        changed = Trails.deposited(self, row, event, recorded=recorded)
        mended = self._folder is None or (self._folder / "mended").exists()
        spoilt = (row and row.chain == TOO_LARGE) or (event.amount == HUGE and not mended)
        return replace(changed, chain=TOO_LARGE) if spoilt else changed


def events() -> list[Deposited]:
    """Return events of a few rows; one fails, one cannot be stored, others wait behind them."""
    kinds = {3: POISON, 9: HUGE, 15: POISON}
    return [Deposited(account=f"a{number % 5}", amount=kinds.get(number, POISON - 1)) for number in range(24)]


class Life:
    """One read model under a name of its own, whose processes die."""

    def __init__(
        self, database: ReadDatabase, store: EventStore, kind: type[Any], number: int, folder: Path, batch_size: int
    ) -> None:
        self.name = f"{kind.name}_{number}"
        names = {"name": self.name, "tables": (self.name,)} if kind is Tallies else {"name": self.name}
        self._class = type(kind.__name__, (kind,), names)
        self._database, self._store, self._folder, self._batch_size = database, store, folder, batch_size

    def synchronizer(self, database: Any) -> ReadModelSynchronizer:
        return ReadModelSynchronizer(
            self._store, database, [self._class(self._folder)], batch_size=self._batch_size, options=quick(lease=30.0)
        )

    async def run(self, database: Any) -> None:
        """Work until it is done, or dead; then nobody holds anything, as when the lease has run out."""
        synchronizer = self.synchronizer(database)
        running = asyncio.create_task(synchronizer.run())
        dead = asyncio.create_task(getattr(database, "dead", asyncio.Event()).wait())
        done = asyncio.create_task(until(self._is_done, LONG_PATIENCE))
        ended, going_on = await asyncio.wait({running, dead, done}, return_when=asyncio.FIRST_COMPLETED)
        for task in going_on:
            task.cancel()
        await asyncio.gather(*going_on, return_exceptions=True)
        if dead not in ended:
            for task in ended:
                task.result()
        async with self._database.transaction() as transaction:
            await transaction.run("UPDATE twofold_checkpoints SET owner = ''")
            await transaction.run("DELETE FROM twofold_workers")

    async def prepare(self) -> None:
        await self.synchronizer(self._database).prepare()

    async def retry(self) -> None:
        await self.synchronizer(self._database).control(self.name).retry()

    async def state(self) -> tuple[Any, ...]:
        """Return the rows and what is parked."""
        rows = await self._database.query(f"SELECT * FROM {self.name} ORDER BY account")
        parked = await self._database.query(SQL["parked"], name=self.name, generation=1, limit=1000)
        return rows, [(row[0], row[3], bool(row[4])) for row in parked]

    async def _is_done(self) -> bool:
        rows = await self._database.query(SQL["position_of"], name=self.name, generation=1)
        asked = await self._database.query(
            "SELECT count(*) FROM twofold_parked WHERE name = :name AND retry = 1", name=self.name
        )
        return rows[0][0] is not None and rows[0][0] >= await self._store.head() and asked == [(0,)]


async def campaign(
    url: str, folder: Path, seed: int, points: int, broken: Callable[[Any], Any] = lambda database: database
) -> None:
    """Die at so many points, chosen at random, and compare with a life without a death.

    Raises:
        AssertionError: something shows.
    """
    print(f"seed {seed}")
    chance, mended = random.Random(seed), folder / "mended"
    async with engine_at(url) as (engine, store):
        store.events.register(Deposited)
        await store.append(events())
        database, number = engine.read_database, 0

        async def live(kind: type[Any], batch_size: int, first: int, second: int) -> tuple[list[Any], list[int]]:
            """Die once on the way to the head, and once more in the retry."""
            nonlocal number
            number += 1
            life = Life(database, store, kind, number, folder, batch_size)
            await life.prepare()
            states, counts = [], []
            for retrying, dies_at in enumerate((first, second)):
                if retrying:
                    mended.touch()
                    await life.retry()
                mortal = MortalReadDatabase(database, dies_at)
                await life.run(broken(mortal))
                counts.append(mortal.points)
                await life.run(database)
                states.append(await life.state())
            mended.unlink()
            return states, counts

        while number < points:
            kind, batch_size = chance.choice([Fragile, Fragile, Tallies]), chance.choice([2, 7, 1000])
            wanted, counts = await live(kind, batch_size, 0, 0)
            assert not wanted[1][1], "all is let in when it is mended"
            for _ in range(10):
                first, second = chance.randint(1, counts[0]), chance.randint(1, counts[1])
                found, _ = await live(kind, batch_size, first, second)
                where = f"seed {seed}: {kind.__name__}, {batch_size} at once, died at {first} and {second}"
                assert found == wanted, where


async def test_a_death_at_any_point_does_not_show(url: str, tmp_path: Path) -> None:
    await campaign(url, tmp_path, random.randrange(2**32), 65)


@pytest.mark.soak
async def test_a_death_at_very_many_points_does_not_show(url: str, tmp_path: Path) -> None:
    await campaign(url, tmp_path, random.randrange(2**32), 2500)


async def test_a_checkpoint_in_a_second_transaction_is_found_out_at_its_point(url: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="died at"):
        await campaign(url, tmp_path, 1, 200, InTwoTransactions)
