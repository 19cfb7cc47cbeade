"""What takes long is done once, what takes too long shows, and no reaction comes behind later ones of its key."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from tests.accounts import Balances, Deposited
from tests.synchronizing import PATIENCE, deposited, opened, quick, running, until, write

from twofold import EventStore, ReadModelSynchronizer, metadata
from twofold.engines.engine import Engine
from twofold.errors import CheckpointMovedError
from twofold.ports.checkpoints import SQL, Checkpoint
from twofold.ports.segments import Segment, Step
from twofold.projections.keys.keyed_event import KeyedEvent
from twofold.projections.kinds import ASYNCHRONOUS
from twofold.projections.reaction import Reaction
from twofold.projections.reaction_runner import ReactionRunner
from twofold.projections.runner import ProjectionBatch


class Letters(Reaction):
    """Takes a while for each letter."""

    name = "letters"
    seconds = 0.0

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.sent: list[str] = []

    def handles(self) -> tuple[type, ...]:
        return (Deposited,)

    async def apply(self, event: Deposited) -> None:
        self.begun.append(event.account)
        await asyncio.sleep(self.seconds)
        self.sent.append(event.account)


async def test_a_reaction_that_takes_longer_than_the_lease_is_done_once(engine: Engine, store: EventStore) -> None:
    class Slow(Letters):
        seconds = 1.5

    slow, other = Slow(), Slow()
    synchronizer = ReadModelSynchronizer(store, engine.read_database, [slow], options=quick(lease=0.6))
    second = ReadModelSynchronizer(store, engine.read_database, [other], options=quick(lease=0.6))
    await synchronizer.prepare()
    async with running(synchronizer), running(second):
        await synchronizer.wait(await write(store, deposited("a"), deposited("b")), PATIENCE)
        assert [each.problems for each in await synchronizer.status()] == [[]]
    assert sorted(slow.begun + other.begun) == ["a", "b"]


async def test_a_reaction_beyond_its_time_limit_shows_and_is_parked_in_the_end(
    engine: Engine, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")

    class Stuck(Letters):
        seconds = 60.0
        time_limit = timedelta(seconds=0.3)

    stuck = Stuck()
    synchronizer = ReadModelSynchronizer(store, engine.read_database, [stuck], options=quick(lease=0.2, retries=2))
    await synchronizer.prepare()
    async with running(synchronizer):
        head = await write(store, deposited("a"))

        async def shows() -> bool:
            return "took longer than its time limit of 0.3 s" in str((await synchronizer.status())[0].problems)

        await until(shows)
        await synchronizer.wait(head, PATIENCE)
        [parked] = await synchronizer.control("letters").parked()
        assert "event 1 of letters took longer than its time limit of 0.3 s" in parked.cause
        assert (len(stuck.begun), stuck.sent) == (3, [])


async def test_a_step_beyond_its_time_limit_shows_and_is_tried_again(
    engine: Engine, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")
    database = Silent(engine.read_database)
    options = quick(0.3, lease=0.2, time_limit=0.3)
    synchronizer = ReadModelSynchronizer(store, database, [Balances()], options=options)
    async with running(synchronizer):
        head = await write(store, opened("a"))

        async def shows() -> bool:
            return "a step of 1 events of balances took longer than its time limit of 0.3 s" in str(
                [each.problems for each in await synchronizer.status()]
            )

        await until(shows)
        await synchronizer.wait(head, PATIENCE)

        async def healthy() -> bool:
            return [each.problems for each in await synchronizer.status()] == [[]]

        await until(healthy)


class Silent:
    """A read database that never answers the first commit."""

    def __init__(self, behind: Any) -> None:
        self._behind = behind
        self._is_silent = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    async def commit(self, *arguments: Any) -> None:
        if self._is_silent:
            self._is_silent = False
            await asyncio.Event().wait()
        await self._behind.commit(*arguments)


async def test_a_worker_that_wakes_without_its_lease_does_not_react_any_more(engine: Engine, store: EventStore) -> None:
    letters = Letters()
    synchronizer = ReadModelSynchronizer(store, engine.read_database, [letters])
    await synchronizer.prepare()
    await write(store, deposited("a"))
    [recorded] = [each async for each in store.read()]
    [row] = await rows(engine)
    batch = ProjectionBatch(row_suffix(), [KeyedEvent(recorded, ())], step_of(row, 1))
    runner = ReactionRunner(engine.read_database, letters, ASYNCHRONOUS)
    async with engine.read_database.transaction() as transaction:  # as another worker does that takes the segment
        await transaction.run(SQL["fence"], name="letters", generation=1)
    with pytest.raises(CheckpointMovedError):
        await runner.project(batch)
    assert letters.begun == []


async def test_a_worker_whose_lease_is_nearly_over_renews_it_before_it_reacts(
    engine: Engine, store: EventStore
) -> None:
    letters = Letters()
    synchronizer = ReadModelSynchronizer(store, engine.read_database, [letters])
    await synchronizer.prepare()
    await write(store, deposited("a"))
    [recorded] = [each async for each in store.read()]
    [row] = await rows(engine)
    left: list[int] = []

    async def noted(event: Any) -> None:
        [seen] = await rows(engine)
        left.append(seen.leased_until - seen.now)

    letters.apply = noted  # type: ignore[method-assign]
    runner = ReactionRunner(engine.read_database, letters, ASYNCHRONOUS)
    await runner.project(ProjectionBatch(row_suffix(), [KeyedEvent(recorded, ())], step_of(row, 1)))
    assert left[0] > 15_000_000


async def rows(engine: Engine) -> list[Checkpoint]:
    return [Checkpoint(*row) for row in await engine.read_database.query(SQL["checkpoints"])]


def row_suffix() -> str:
    return "__1"


def step_of(row: Checkpoint, after: int) -> Step:
    segment = Segment(row.name, row.generation, row.first, row.end)
    return Step(segment, row.epoch, row.position, after, 30.0)


async def test_what_a_reaction_does_is_on_behalf_of_its_event(engine: Engine, store: EventStore) -> None:
    """A mail's log line, a command that it dispatches: all know the correlation, the cause, the tenant and the user."""

    class Books(Letters):
        async def apply(self, event: Deposited) -> None:
            await store.append([opened("caused")])

    synchronizer = ReadModelSynchronizer(store, engine.read_database, [Books()], options=quick())
    await synchronizer.prepare()
    with metadata(tenant="t1", user="ann"):
        await write(store, deposited("a"))
    async with running(synchronizer):
        await synchronizer.wait(1, PATIENCE)
    cause, caused = [each async for each in store.read()]
    assert (caused.metadata.tenant, caused.metadata.user) == ("t1", "ann")
    assert caused.metadata.causation_id == caused.metadata.correlation_id == cause.event_id
    assert caused.metadata.command_id is None
