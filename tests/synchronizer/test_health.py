"""Health is red unless something says green: a live worker, or a checkpoint that is up to date and attended."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from tests.accounts import Balances
from tests.synchronizing import PATIENCE, deposited, opened, quick, running, until, write

from twofold import EventStore, ProjectionState, ReadModelSynchronizer
from twofold.engines.engine import Engine
from twofold.errors import NoWorkerError, StaleReadError
from twofold.synchronizer.leases import Leases, new_worker

IMPATIENT = quick(lease=0.3, unattended=0.2, look=0.01)
HOUR = 3_600_000_000


async def set_clock_back(engine: Engine) -> None:
    """Let all that is stored be from an hour later, as it is when the database's clock goes back by an hour."""
    async with engine.read_database.transaction() as transaction:
        await transaction.run(
            "UPDATE twofold_checkpoints SET moved_at = moved_at + :hour, leased_at = leased_at + :hour,"
            " leased_until = leased_until + :hour",
            hour=HOUR,
        )
        await transaction.run(
            "UPDATE twofold_workers SET seen_at = seen_at + :hour, seen_until = seen_until + :hour", hour=HOUR
        )
        await transaction.run("UPDATE twofold_projections SET made_at = made_at + :hour", hour=HOUR)


async def problems(synchronizer: ReadModelSynchronizer) -> list[str]:
    return [problem for each in await synchronizer.status() for problem in each.problems]


@pytest.fixture
def synchronizer(engine: Engine, store: EventStore) -> ReadModelSynchronizer:
    return ReadModelSynchronizer(store, engine.read_database, [Balances()], options=IMPATIENT)


async def test_what_was_never_made_is_red(synchronizer: ReadModelSynchronizer) -> None:
    assert await problems(synchronizer) == [
        "was never made; start an `Application` or a synchronizer that has its code"
    ]


async def test_what_is_new_is_red_after_the_same_time_as_all_others(synchronizer: ReadModelSynchronizer) -> None:
    await synchronizer.prepare()

    async def is_red() -> bool:
        told = r"no worker has worked on it for [0-9.]+ s"
        return any(re.search(told, each) for each in await problems(synchronizer))

    await until(is_red)
    assert (await synchronizer.status())[0].state is ProjectionState.NEW


async def test_what_is_detached_is_red_unless_it_is_paused(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore
) -> None:
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
    onlooker = ReadModelSynchronizer(store, engine.read_database, options=IMPATIENT)

    async def is_red() -> bool:
        return any("no worker has worked on it" in each for each in await problems(onlooker))

    await until(is_red)
    assert (await onlooker.status())[0].state is ProjectionState.DETACHED
    await synchronizer.control("balances").pause()
    assert await problems(synchronizer) == []


async def test_a_generation_that_no_worker_builds_is_red(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore
) -> None:
    class Next(Balances):
        version = 2

    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        await ReadModelSynchronizer(store, engine.read_database, [Next()]).prepare()

        async def is_red() -> bool:
            return any("no worker has built the next generation" in each for each in await problems(synchronizer))

        await until(is_red)


async def test_a_rebuild_without_a_worker_says_so(synchronizer: ReadModelSynchronizer) -> None:
    await synchronizer.prepare()
    with pytest.raises(NoWorkerError, match=r"no worker that has this version of 'balances' has run for 0\.3 s"):
        await synchronizer.rebuild_projection("balances")


async def test_when_the_clock_goes_back_the_segments_of_a_dead_worker_are_taken_at_once(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore
) -> None:
    await synchronizer.prepare()
    dead = Leases(engine.read_database, "elsewhere:1:dead", [("balances", 1)], 0.3)
    assert len((await dead.take_round([])).held) == 1
    await set_clock_back(engine)
    assert len((await Leases(engine.read_database, new_worker(), [("balances", 1)], 0.3).take_round([])).held) == 1


async def test_when_the_clock_goes_back_what_no_worker_holds_is_red(
    synchronizer: ReadModelSynchronizer, engine: Engine
) -> None:
    await synchronizer.prepare()
    dead = Leases(engine.read_database, "elsewhere:1:dead", [("balances", 1)], 0.3)
    await dead.take_round([])
    await set_clock_back(engine)
    [status] = await synchronizer.status()
    assert status.segments[0].worker == ""
    assert timedelta(minutes=59) < status.segments[0].unattended < timedelta(minutes=61)
    assert any("no worker has worked on it for 3" in each for each in status.problems)


async def test_when_the_clock_goes_back_a_living_worker_goes_on(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore
) -> None:
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        await set_clock_back(engine)
        await synchronizer.wait(await write(store, deposited("a")), PATIENCE)

        async def is_green() -> bool:
            return await problems(synchronizer) == []

        await until(is_green)


async def test_a_wedged_worker_is_red(engine: Engine, store: EventStore) -> None:
    """Its rounds go on and its work does not."""
    synchronizer = ReadModelSynchronizer(store, engine.read_database, [Balances()], options=IMPATIENT)
    await synchronizer.prepare()
    wedged = Leases(engine.read_database, new_worker(), [("balances", 1)], 0.1)
    await wedged.take_round([])

    async def shows() -> bool:
        await wedged.take_round([])
        return any("its work did not go on for 0.1 s" in each for each in await problems(synchronizer))

    await until(shows)
    await write(store, opened("a"))
    with pytest.raises(StaleReadError):
        await synchronizer.wait(1, 0.2)
