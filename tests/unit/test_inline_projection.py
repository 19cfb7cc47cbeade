"""Read models that are written in the transactions of the appends; kills, see `tests/projections`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from tests.accounts import Balance, Balances, Deposit, Deposited, Open, Opened, wire

from twofold import Application, EventStore, Projection, ReadModel, ReadModelSynchronizer, on
from twofold.engines import Engine, connect
from twofold.errors import ProjectionFailedError
from twofold.generations import SQL
from twofold.projection import fold, keys_of

PATIENCE = 30.0


@pytest_asyncio.fixture
async def engine(url: str) -> AsyncIterator[Engine]:
    async with opened_engine(url) as engine:
        yield engine


@pytest.fixture
def store(engine: Engine) -> EventStore:
    return EventStore(engine.log)


@pytest_asyncio.fixture
async def other(url: str) -> AsyncIterator[Engine]:
    """Return the same database as another process has it, which knows of no inline projection."""
    async with opened_engine(url) as engine:
        yield engine


@asynccontextmanager
async def opened_engine(url: str) -> AsyncIterator[Engine]:
    engine = connect(url)
    await engine.log.open()
    await engine.read_database.open()
    try:
        yield engine
    finally:
        await engine.read_database.close()
        await engine.log.close()


@asynccontextmanager
async def running(synchronizer: ReadModelSynchronizer) -> AsyncIterator[ReadModelSynchronizer]:
    task = asyncio.create_task(synchronizer.run())
    try:
        yield synchronizer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Fussy(Balances):
    """Refuses deposits of 13, and makes a row that cannot be stored of one of 14."""

    refused = frozenset({13, 14})

    @on(Deposited)
    def deposited(self, row: Balance, event: Deposited) -> Balance:
        if event.amount in self.refused:
            if event.amount == 14:
                return Balance(row.account, None)  # type: ignore[arg-type]
            raise ArithmeticError("unlucky")
        return super().deposited(row, event)


def opened(account: str) -> Opened:
    return Opened(account=account)


def deposited(account: str, amount: int = 1) -> Deposited:
    return Deposited(account=account, amount=Decimal(amount))


async def inline(engine: Engine, store: EventStore, projection: Projection[Any] | None = None) -> ReadModel[Any]:
    """Return a read model that is ready and that nobody runs: whatever it shows, the appends have written."""
    synchronizer = ReadModelSynchronizer(store, engine.read_database)
    model = synchronizer.add(projection or Balances(), kind="inline")
    await synchronizer.prepare()
    return model


async def rows(model: ReadModel[Any]) -> dict[Any, Any]:
    return {row.account: row for row in (await model.page(page_size=1000)).items}


async def fresh(store: EventStore, projection: Projection[Any] | None = None) -> dict[Any, Any]:
    """Return a fold of the log in memory."""
    projection = projection or Balances()
    store.events.register(*projection.handles())
    events = [recorded async for recorded in store.read()]
    folded = fold(projection, {}, keys_of(projection, events), events).rows
    return {key[0]: row for key, row in folded.items() if row is not None}


async def checkpoints(engine: Engine, name: str = "balances", generation: int = 1) -> set[int]:
    found = await engine.read_database.query(SQL["checkpoints_of"], name=name, generation=generation)
    return {row[4] for row in found}


async def test_the_rows_are_there_when_the_append_returns(engine: Engine, store: EventStore) -> None:
    balances = await inline(engine, store)
    await store.append([opened("a"), deposited("a", 2)])
    assert await balances.get("a") == Balance("a", "ann", Decimal(2), 1)
    receipt = await store.append([deposited("a", 3)])
    assert await balances.get("a") == Balance("a", "ann", Decimal(5), 2)
    assert await checkpoints(engine) == {receipt.position}


async def test_the_rows_are_there_when_a_command_returns_and_nobody_has_to_wait(url: str) -> None:
    app = Application(url, synchronize=False)
    balances = app.projections.add(Balances(), kind="inline")
    wire(app)
    async with app:
        await app.commands.execute(Open(account="a"))
        receipt = await app.commands.execute(Deposit(account="a", amount=Decimal(7)))
        assert await balances.get("a") == Balance("a", "ann", Decimal(7), 1)
        await app.projections.wait(receipt.position, 0)


@pytest.mark.parametrize("amount", [13, 14])
async def test_a_failure_rejects_its_own_append_and_no_other_of_the_group(
    engine: Engine, store: EventStore, amount: int
) -> None:
    balances = await inline(engine, store, Fussy())
    await store.append([opened(f"a{number}") for number in range(20)])

    async def deposit(number: int) -> object:
        unlucky = amount if number % 7 == 3 else 1
        try:
            return await store.append([deposited(f"a{number}"), deposited(f"a{number}", unlucky)])
        except ProjectionFailedError as error:
            return error

    outcomes = await asyncio.gather(*map(deposit, range(20)))
    refused = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, ProjectionFailedError)]
    assert refused == [3, 10, 17]
    assert all(outcomes[number].__cause__ is not None for number in refused)  # type: ignore[attr-defined]
    assert await store.head() == 20 + 2 * 17, "positions of rejected appends are not consumed"
    assert await rows(balances) == await fresh(store, Fussy())
    assert {number for number in range(20) if not (await balances.get(f"a{number}")).changes} == {3, 10, 17}


async def test_a_rejected_append_can_be_made_again_and_takes_effect_once(engine: Engine, store: EventStore) -> None:
    fussy = Fussy()
    balances = await inline(engine, store, fussy)
    await store.append([opened("a")])
    [encoded] = store.encode([deposited("a", 13)], "", "")
    for _ in range(2):
        with pytest.raises(ProjectionFailedError, match=r"balances failed on event 2 \(Deposited\): ArithmeticError"):
            await store.append([deposited("a", 13)], event_ids=[_id(encoded)])
    fussy.refused = frozenset()  # type: ignore[misc]
    receipts = [await store.append([deposited("a", 13)], event_ids=[_id(encoded)]) for _ in range(3)]
    assert [receipt.position for receipt in receipts] == [2, 2, 2]
    assert await balances.get("a") == Balance("a", "ann", Decimal(13), 1)


def _id(encoded: Any) -> UUID:
    return UUID(bytes=encoded.event_id)
