"""Everything at once, at random: at the end, every read model is what a fold of the log in memory gives."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.campaigns.planted import assert_finds
from tests.campaigns.read_models.crew import Member, Plan, within, work, write
from tests.campaigns.read_models.trails import Tallies, Trails, fresh_fold, fresh_tallies, skipped_in
from tests.postgres_servers import PostgresServer
from tests.synchronizing import engine_at

from twofold import EventStore, ReadModelSynchronizer
from twofold.engines.engine import Engine
from twofold.errors import RebuildFailedError, StorageError
from twofold.ports.checkpoints import SQL, Generation
from twofold.ports.read_database import Changes
from twofold.ports.segments import SLOTS, Step
from twofold.ports.table import Table

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")
NAMES = ("trails", "tallies")
MOST_WORKERS = 3


def in_two_transactions() -> None:
    """The planted bug: rows are committed first, and the checkpoint after them."""
    from twofold.engines.postgres.read_models.read_database import PostgresReadDatabase
    from twofold.engines.sqlite.read_models.read_database import SqliteReadDatabase

    for adapter in (PostgresReadDatabase, SqliteReadDatabase):
        commit = adapter.commit

        async def rows_first(self: Any, table: Table, changes: Changes, step: Step, commit: Any = commit) -> None:
            await commit(self, table, changes, step._replace(after=step.before, event_id=""))
            await asyncio.sleep(0.02)  # so that what happens at random comes in between, also on a busy machine
            await commit(self, table, Changes(), step)

        adapter.commit = rows_first  # type: ignore[method-assign]


class Chaos:
    """Does something to whoever works, at random, then mends it all."""

    def __init__(
        self, engine: Engine, store: EventStore, plan: Plan, chance: random.Random, restart: Callable[[], object] | None
    ) -> None:
        self._database, self._store, self._plan, self._chance = engine.read_database, store, plan, chance
        self._restart = restart
        self._synchronizer = ReadModelSynchronizer(store, engine.read_database, [Trails(), Tallies()])
        self._workers: list[Member] = []
        self._rebuilds: list[asyncio.Task[object]] = []
        self.done: dict[str, int] = {}

    async def run(self, seconds: float) -> None:
        """Do one thing after the other."""
        await self._synchronizer.prepare()
        self._workers = [Member(work, self._plan) for _ in range(2)]
        end = asyncio.get_running_loop().time() + seconds
        deeds: list[Callable[[], Awaitable[object]]] = [
            self._kill, self._freeze, self._wake, self._wake, self._start, self._start, self._rebuild, self._cancel,
            self._roll_back, self._scale, self._scale, self._pause, self._resume, self._resume, self._retry, self._skip,
            self._mend, self._break, *([self._restart_server] if self._restart else []),
        ]  # fmt: skip
        while asyncio.get_running_loop().time() < end:
            deed = self._chance.choice(deeds)
            # The server is away, a frozen process has the lock, or it is not the time for that.
            with suppress(StorageError, RebuildFailedError, TimeoutError):
                async with asyncio.timeout(10):
                    await deed()
            name = deed.__name__.strip("_")
            self.done[name] = self.done.get(name, 0) + 1
            await asyncio.sleep(self._chance.uniform(0.0, 0.3))  # let it have its effect

    async def mend(self, patience: float) -> None:
        """Let everything go on, and wait until it has; so many seconds for what is parked."""
        for each in self._workers:
            each.wake()
        if not self._workers:
            await self._start()
        await self._mend()
        for name in NAMES:
            await self._synchronizer.control(name).cancel_rebuild()
            await self._synchronizer.control(name).resume()
            await self._synchronizer.control(name).scale(self._chance.randint(1, 4))
        for rebuilding in self._rebuilds:
            rebuilding.cancel()
        await asyncio.gather(*self._rebuilds, return_exceptions=True)
        head = await self._store.head()
        there = await within(30 + patience, lambda: self._caught_up(head))
        assert there, f"it does not come to {head}: {await self._state()}"
        for name in NAMES:
            await self._synchronizer.control(name).retry()
        done = await within(patience, self._nothing_parked)
        for each in self._workers:
            each.check()
        assert done, f"something is parked for ever: {await self._state()}"

    def stop(self) -> None:
        for each in self._workers:
            each.kill()

    async def check(self) -> None:
        """Compare the read models with the log.

        Raises:
            AssertionError: they differ, or the segments are not those of all slots, each once.
        """
        rows = await self._database.query("SELECT account, count, last, chain FROM trails")
        fresh = await fresh_fold(self._store, await skipped_in(self._database, "trails"))
        wanted = {row.account: (row.count, row.last, row.chain) for row in fresh.values()}
        assert {row[0]: tuple(row[1:]) for row in rows} == wanted, "the keyed rows are not those of the log"
        rows = await self._database.query("SELECT account, count, chain FROM tallies")
        fresh_rows = await fresh_tallies(self._store, await skipped_in(self._database, "tallies"))
        assert {row[0]: tuple(row[1:]) for row in rows} == fresh_rows, "the SQL rows are not those of the log"
        for each in await self._generations():
            found = await self._database.query(SQL["checkpoints_of"], name=each.name, generation=each.number)
            edges = [(row[2], row[3]) for row in found]
            assert [first for first, _ in edges] == [0, *(end for _, end in edges[:-1])], f"segments {edges}"
            assert edges[-1][1] == SLOTS

    # -- deeds ------------------------------------------------------------------------------------------------------

    async def _kill(self) -> None:
        if self._workers:
            self._workers.pop(self._chance.randrange(len(self._workers))).kill()

    async def _start(self) -> None:
        if len(self._workers) < MOST_WORKERS:
            self._workers.append(Member(work, self._plan))

    async def _freeze(self) -> None:
        awake = [each for each in self._workers if not each.is_frozen]
        if awake and not any(each.is_frozen for each in self._workers):
            self._chance.choice(awake).freeze()

    async def _wake(self) -> None:
        for each in self._workers:
            each.wake()

    async def _rebuild(self) -> None:
        if not any(not each.done() for each in self._rebuilds):
            self._rebuilds.append(asyncio.create_task(self._rebuild_one(self._name())))

    async def _rebuild_one(self, name: str) -> None:
        with suppress(StorageError, RebuildFailedError):
            await self._synchronizer.rebuild_projection(name)

    async def _cancel(self) -> None:
        if self._chance.random() < 0.3:
            await self._synchronizer.control(self._name()).cancel_rebuild()

    async def _roll_back(self) -> None:
        await self._synchronizer.control(self._name()).roll_back()

    async def _scale(self) -> None:
        await self._synchronizer.control(self._name()).scale(self._chance.randint(1, 6))

    async def _pause(self) -> None:
        await self._synchronizer.control(self._name()).pause()

    async def _resume(self) -> None:
        for name in NAMES:
            await self._synchronizer.control(name).resume()

    async def _retry(self) -> None:
        await self._synchronizer.control(self._name()).retry()

    async def _skip(self) -> None:
        name = self._name()
        if parked := [each for each in await self._synchronizer.control(name).parked() if each.cause]:
            with suppress(ValueError):  # it has come in meanwhile
                await self._synchronizer.control(name).skip(self._chance.choice(parked).position, reason="chaos")

    async def _mend(self) -> None:
        (self._plan.folder / "mended").touch()

    async def _break(self) -> None:
        (self._plan.folder / "mended").unlink(missing_ok=True)

    async def _restart_server(self) -> None:
        if self._restart and self._chance.random() < 0.4:
            await asyncio.to_thread(self._restart)

    # -- state ------------------------------------------------------------------------------------------------------

    def _name(self) -> str:
        return self._chance.choice(NAMES)

    async def _generations(self) -> list[Generation]:
        return [Generation(*row) for row in await self._database.query(SQL["generations"])]

    async def _may_serve(self) -> set[tuple[str, int]]:
        """The others stand still for ever: an event was left out of the log's fold that they have in them."""
        return {(each.name, each.number) for each in await self._generations() if not each.refused}

    async def _caught_up(self, head: int) -> bool:
        with suppress(StorageError):
            concerned = await self._may_serve()
            rows = await self._database.query(SQL["checkpoints"])
            return all(row[4] >= head for row in rows if tuple(row[:2]) in concerned)
        return False

    async def _nothing_parked(self) -> bool:
        concerned = await self._may_serve()
        return not any(tuple(row[:2]) in concerned for row in await self._database.query(SQL["parked_counts"]))

    async def _state(self) -> str:
        rows = [row[:10] for row in await self._database.query(SQL["checkpoints"])]
        workers = await self._database.query(SQL["workers"])
        parked = await self._database.query(SQL["parked_counts"])
        return f"{rows}, workers {workers}, parked {parked}, {await self._generations()}"


async def campaign(
    plan: Plan, seed: int, seconds: float, restart: Callable[[], object] | None = None, patience: float = 60
) -> None:
    """Do it under live writes from several processes, mend it and compare.

    Raises:
        AssertionError: something was lost, doubled, inverted, or left behind.
    """
    print(f"seed {seed}")
    async with engine_at(plan.url) as (engine, store):
        chaos = Chaos(engine, store, plan, random.Random(seed), restart)
        writers = [Member(write, plan, seed + number, 0.02, 0.01) for number in range(2)]
        try:
            await chaos.run(seconds)
            (plan.folder / "written").touch()
            for each in writers:
                each.join()
            print(chaos.done, "events:", await store.head())
            await chaos.mend(patience)
            await chaos.check()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        finally:
            chaos.stop()
            for each in writers:
                each.kill()


async def _on_postgres(server: PostgresServer, folder: Path, seed: int, seconds: float, patience: float = 60) -> None:
    chance = random.Random(seed)

    def restart() -> None:
        server.restart(chance.choice(["INT", "QUIT"]))

    with server.database() as url:
        await campaign(Plan(url, folder, lease=0.5), seed, seconds, restart, patience)


async def test_read_models_on_sqlite_survive_everything_at_once(tmp_path: Path) -> None:
    await campaign(Plan(f"sqlite:///{tmp_path}/twofold.db", tmp_path, lease=0.5), random.randrange(2**32), 6)


async def test_read_models_on_postgres_survive_everything_at_once(
    own_server: Callable[..., PostgresServer], tmp_path: Path
) -> None:
    await _on_postgres(own_server(), tmp_path, random.randrange(2**32), 6)


async def test_a_checkpoint_in_a_second_transaction_is_found_out(url: str, tmp_path: Path) -> None:
    async def attempt(seed: int) -> None:
        folder = tmp_path / str(seed)
        folder.mkdir()
        await campaign(Plan(url, folder, lease=0.5, planted=in_two_transactions), seed, 5, patience=5)

    await assert_finds(attempt, "parked for ever|rows are not those of the log")


@pytest.mark.soak
@pytest.mark.parametrize("number", range(20))
async def test_read_models_on_sqlite_survive_everything_for_long(tmp_path: Path, number: int) -> None:
    await campaign(
        Plan(f"sqlite:///{tmp_path}/twofold.db", tmp_path, lease=0.5), random.randrange(2**32), 180, patience=600
    )


@pytest.mark.soak
@pytest.mark.parametrize("number", range(20))
async def test_read_models_on_postgres_survive_everything_for_long(
    own_server: Callable[..., PostgresServer], tmp_path: Path, number: int
) -> None:
    await _on_postgres(own_server(), tmp_path, random.randrange(2**32), 180, patience=600)
