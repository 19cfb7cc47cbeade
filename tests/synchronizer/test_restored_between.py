"""The log's own database is restored in place between the fold of a step and its commit, or between two steps.

Positions and epochs come again then. A step of the history that is lost must not be taken, and rows that were kept of
it must not be folded on: the read model shows what the log holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

import pytest
from tests.accounts import Balance, Balances, Deposited, Mails
from tests.fulfilment import QUICK
from tests.restorable import restored_in_place
from tests.synchronizing import PATIENCE, deposited, engine_at, opened, quick, running, until, write

import trial
from trial import TrialStarted
from twofold import (
    Application,
    BatchReaction,
    EventStore,
    GroupedProjection,
    Key,
    ReadModelSynchronizer,
    SqlProjection,
    on,
)
from twofold.engines.engine import Engine
from twofold.errors import CheckpointMovedError
from twofold.messages.event import RecordedEvent
from twofold.messages.mark import Mark
from twofold.ports.checkpoints import SQL, Checkpoint, advance, hold
from twofold.ports.read_database import Changes
from twofold.ports.segments import Segment, Step
from twofold.projections.runner import ProjectionRunner

OPTIONS = quick(lease=60.0)
"""Leases that outlast the test: the restored database knows the same holder under the same epoch."""
LOST, KEPT = 1_000_000, 5


@dataclass(frozen=True)
class Amount:
    account: Annotated[str, Key()]
    number: Annotated[int, Key()]
    amount: Decimal


class Amounts(GroupedProjection[Amount]):
    name = "amounts"

    @on(Deposited)
    def deposited(self, rows: tuple[Amount, ...] | None, event: Deposited) -> list[Amount]:
        return [*(rows or ()), Amount(event.account, len(rows or ()), event.amount)]


class Totals(SqlProjection):
    """Adds up all deposits with SQL of its own."""

    name = "totals"
    tables = ("totals",)

    def handles(self) -> tuple[type, ...]:
        return (Deposited,)

    async def create(self, connection: Any) -> None:
        await _done(connection.execute(f"CREATE TABLE {self.table('totals')} (amount TEXT)"))

    async def apply(self, event: Deposited, connection: Any) -> None:
        await _done(connection.execute(f"INSERT INTO {self.table('totals')} VALUES ('{event.amount}')"))


async def _done(result: Any) -> None:
    if isinstance(result, Awaitable):
        await result


class Bulk(BatchReaction):
    """Remembers what it did, batch by batch."""

    name = "bulk"

    def __init__(self) -> None:
        self.sent: list[Decimal] = []

    def handles(self) -> tuple[type, ...]:
        return (Deposited,)

    async def apply(self, events: Sequence[RecordedEvent[Deposited]]) -> None:
        self.sent += [each.event.amount for each in events]


def before_the_step(database: Any, runner: ProjectionRunner, deed: Callable[[], Awaitable[object]]) -> None:
    """Do something once, when a runner has folded an event and is about to open the transaction of its step."""
    begun: list[asyncio.Task[Any] | None] = []
    project, commit, transaction = runner.project, database.commit, database.transaction

    async def strike() -> None:
        if begun and begun[0] is asyncio.current_task():
            begun[0] = None
            await deed()

    async def projecting(batch: Any) -> Any:
        if batch.events and not begun:
            begun.append(asyncio.current_task())
        return await project(batch)

    async def committing(*args: Any) -> None:
        await strike()
        await commit(*args)

    @asynccontextmanager
    async def opening(*args: Any, **options: Any) -> AsyncIterator[Any]:
        await strike()
        async with transaction(*args, **options) as opened:
            yield opened

    runner.project = projecting  # type: ignore[method-assign]
    database.commit, database.transaction = committing, opening


@pytest.mark.parametrize("kind", [Balances, Amounts, Totals, Mails, Bulk])
async def test_a_step_that_was_folded_before_a_restore_is_not_taken_after_it(
    url: str, engine: Engine, store: EventStore, kind: Callable[[], Any]
) -> None:
    projection, database = kind(), restored_in_place(url)
    synchronizer = ReadModelSynchronizer(store, engine.read_database, options=OPTIONS)
    model: Any = synchronizer.add(projection, start="beginning")
    lost = asyncio.Event()

    async def restore() -> None:
        await asyncio.to_thread(database.put_back)
        lost.set()

    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        await until(lambda: stands(engine, store, 1))
        await asyncio.to_thread(database.save)
        before_the_step(engine.read_database, synchronizer._of(projection.name).runner, restore)
        await write(store, deposited("a", LOST))
        await asyncio.wait_for(lost.wait(), PATIENCE)
        await write(store, deposited("a", KEPT))
        await until(lambda: stands(engine, store, 2))
        [status] = await synchronizer.status()
        assert (status.position, status.error) == (2, None)
        shown = await amounts_of(projection, model, engine)
        effects = [Decimal(LOST)] if kind in (Mails, Bulk) else []  # what was done elsewhere stays done
        assert shown == [*effects, Decimal(KEPT)]


async def test_a_process_takes_no_step_for_an_event_that_is_lost(url: str) -> None:
    app, database, lost = Application(url, options=QUICK), restored_in_place(url), asyncio.Event()
    trial.wire(app, app.commands.dispatch)

    async def restore() -> None:
        await asyncio.to_thread(database.put_back)
        lost.set()

    async with app:
        control, registered = app.processes.control("trial"), app.projections._of("trial")

        async def customers() -> list[str]:
            return sorted(each.id for each in await control.list())

        async def is_kept() -> bool:
            return await customers() == ["ann", "carl"]

        await app.store.append([TrialStarted(customer="ann")])
        await until(customers)
        await asyncio.to_thread(database.save)
        before_the_step(registered.database, registered.runner, restore)
        await app.store.append([TrialStarted(customer="bob")])
        await asyncio.wait_for(lost.wait(), PATIENCE)
        assert await customers() == ["ann"]
        await app.store.append([TrialStarted(customer="carl")])
        await until(is_kept)
        [status] = [each for each in await app.projections.status() if each.name == "trial"]
        assert status.error is None


async def stands(engine: Engine, store: EventStore, position: int) -> bool:
    """Return whether all checkpoints stand at a position, of the history that the log has."""
    rows = [Checkpoint(*row) for row in await engine.read_database.query(SQL["checkpoints"])]
    found = await store.log.mark(position)
    return all(row.position == position and row.mark == found for row in rows)


async def amounts_of(projection: Any, model: Any, engine: Engine) -> list[Decimal]:
    match projection:
        case Balances():
            return [row.amount for row in (await model.page()).items]
        case Amounts():
            return [row.amount for row in (await model.page()).items]
        case Totals():
            return [Decimal(amount) for (amount,) in await engine.read_database.query("SELECT amount FROM totals__1")]
        case _:
            sent: list[Decimal] = projection.sent
            return sent


async def test_rows_that_were_kept_before_a_restore_are_not_folded_on(
    url: str, engine: Engine, store: EventStore
) -> None:
    """An inline read model comes back to the same position by an append, and no worker takes the step there."""
    database = restored_in_place(url)
    async with engine_at(url) as (_, plain):  # does not know the projection as an inline one
        options = quick(lease=12.0)  # a third of which it takes the worker to come back to a segment
        synchronizer = ReadModelSynchronizer(store, engine.read_database, options=options)
        balances = synchronizer.add(Balances(), kind="inline")
        async with running(synchronizer):
            await write(store, opened("a"))
            await until(lambda: stands(engine, store, 1))
            await asyncio.to_thread(database.save)
            await write(plain, deposited("a", LOST))  # the worker brings it in, and keeps the row
            await until(lambda: stands(engine, store, 2))
            await asyncio.to_thread(database.put_back)
            await write(store, deposited("a", KEPT))
            await until(lambda: stands(engine, store, 2))
            await write(plain, deposited("a", KEPT))
            await until(lambda: stands(engine, store, 3))
            assert await balances.get("a") == Balance("a", "ann", Decimal(2 * KEPT), 2)


@pytest.fixture
async def held(engine: Engine, store: EventStore) -> Step:
    """A step of the whole of a read model from event 1 to event 2, as the log has them."""
    synchronizer = ReadModelSynchronizer(store, engine.read_database, options=OPTIONS)
    synchronizer.add(Balances())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
    await write(store, deposited("a"))
    [row] = [Checkpoint(*row) for row in await engine.read_database.query(SQL["checkpoints"])]
    segment, end = Segment(row.name, row.generation), await store.log.mark(2)
    assert end
    return Step(segment, row.epoch, 1, 2, 1.0, end.text, row.event_id, log_is_beside=True)


FOREIGN = Mark(2, bytes(range(16))).text


@pytest.mark.parametrize(
    ("other", "is_taken"),
    [({}, True), ({"event_id": FOREIGN}, False), ({"before_id": FOREIGN}, False), ({"before_id": ""}, True),
     ({"event_id": FOREIGN, "log_is_beside": False}, True)],
)  # fmt: skip
async def test_a_step_is_taken_only_between_events_that_the_log_has(
    engine: Engine, held: Step, other: dict[str, Any], is_taken: bool
) -> None:
    async with engine.read_database.transaction() as transaction:
        assert await advance(transaction, Changes(), held._replace(**other)) is is_taken


async def test_a_segment_is_not_held_at_another_place_than_it_stands(engine: Engine, held: Step) -> None:
    await hold(engine.read_database, held)
    for other in (held._replace(before_id=FOREIGN), held._replace(before=0)):
        with pytest.raises(CheckpointMovedError):
            await asyncio.wait_for(hold(engine.read_database, other), PATIENCE)
