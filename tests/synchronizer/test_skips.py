"""A skip is of one event: another one that comes to stand at its position is folded, by whatever folds it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from tests.accounts import Balance, Balances, Deposited
from tests.restorable import SqliteFile
from tests.synchronizing import PATIENCE, QUICK, deposited, engine_at, opened, running, until, write

from twofold import EventStore, ReadModelSynchronizer, ReadPolicy, WhenLate, session
from twofold.engines.engine import Engine, connect
from twofold.errors import HistoryChangedError
from twofold.ports.checkpoints import SQL
from twofold.ports.read_database import ReadDatabase
from twofold.projections.runner import ProjectionKind

FOREIGN = "0123456789abcdef0123456789abcdef"
"""Of an event that no log here has."""


async def skip(database: ReadDatabase, position: int, event_id: str) -> None:
    """Store a skip as an operator's decision about another history of the log has left it."""
    values = {"key": "", "cause": "", "reason": "of another history", "position": position, "event_id": event_id}
    async with database.transaction() as transaction:
        await transaction.run(SQL["skip"], name="balances", **values)


@pytest.mark.parametrize("kind", ["asynchronous", "inline"])
async def test_the_skip_of_another_event_is_not_applied(
    engine: Engine, store: EventStore, kind: ProjectionKind, caplog: pytest.LogCaptureFixture
) -> None:
    synchronizer = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    balances = synchronizer.add(Balances(), kind=kind)
    await synchronizer.prepare()
    await skip(engine.read_database, 2, FOREIGN)
    position = await write(store, opened("a"), deposited("a", 2), deposited("a", 3))
    async with running(synchronizer):
        await synchronizer.wait(position, PATIENCE)
        assert await balances.get("a") == Balance("a", "ann", Decimal(5), 2)
        await synchronizer.rebuild_projection("balances", expect_same=True)
        assert await balances.get("a") == Balance("a", "ann", Decimal(5), 2)
    assert any("balances does not skip event 2" in each for each in caplog.messages)


@pytest.mark.parametrize("kind", ["asynchronous", "inline"])
async def test_the_skip_of_this_event_is_applied(engine: Engine, store: EventStore, kind: ProjectionKind) -> None:
    synchronizer = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    balances = synchronizer.add(Balances(), kind=kind)
    await synchronizer.prepare()
    await synchronizer.control("balances").pause()
    position = await write(store, opened("a"), deposited("a", 2), deposited("a", 3))
    await skip(engine.read_database, 2, FOREIGN)  # which the operator's decision replaces
    await synchronizer.control("balances").skip(2, reason="booked twice")
    await synchronizer.control("balances").resume()
    async with running(synchronizer):
        await synchronizer.wait(position, PATIENCE)
        assert await balances.get("a") == Balance("a", "ann", Decimal(3), 1)
        await synchronizer.rebuild_projection("balances", expect_same=True)
        assert await balances.get("a") == Balance("a", "ann", Decimal(3), 1)
    [skipped] = await synchronizer.control("balances").skipped()
    mark = await store.log.mark(2)
    assert mark
    assert (skipped.event_id.bytes, skipped.reason) == (mark.event_id, "booked twice")


async def test_an_overlay_leaves_out_what_is_skipped_and_nothing_else(engine: Engine, store: EventStore) -> None:
    synchronizer = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    balances = synchronizer.add(Overlaid())
    await synchronizer.prepare()
    receipt = await store.append([opened("a"), deposited("a", 2), deposited("a", 3)])
    await skip(engine.read_database, 2, FOREIGN)
    await synchronizer.control("balances").skip(3, reason="booked twice")
    with session(receipt):  # no worker runs: all of it is missing
        assert await balances.get("a") == Balance("a", "ann", Decimal(2), 1)


class Overlaid(Balances):
    policy = ReadPolicy(wait=0.0, then=WhenLate.OVERLAY)


class Fussy(Balances):
    def deposited(self, row: Balance, event: Deposited) -> Balance:
        if event.amount == 13:
            raise ArithmeticError("unlucky")
        return super().deposited(row, event)


async def test_what_was_skipped_before_a_restore_does_not_cost_the_event_that_stands_there_now(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    log, elsewhere = SqliteFile(tmp_path / "log"), connect(f"sqlite:///{tmp_path}/read.db").read_database
    await elsewhere.open()
    async with engine_at(log.url) as (_, store):
        synchronizer = ReadModelSynchronizer(store, elsewhere, options=QUICK)
        balances = synchronizer.add(Fussy())
        async with running(synchronizer):
            await synchronizer.wait(await write(store, opened("a")), PATIENCE)
            log.save()
            await synchronizer.wait(await write(store, deposited("a", 13)), PATIENCE)
            await synchronizer.control("balances").skip_row("a", reason="booked twice")
            log.put_back()
            position = await write(store, deposited("a", 2))
            await until(lambda: stands_still(synchronizer))
            await synchronizer.rebuild_projection("balances")
            await synchronizer.wait(position, PATIENCE)
            assert await balances.get("a") == Balance("a", "ann", Decimal(2), 1)
    await elsewhere.close()


async def stands_still(synchronizer: ReadModelSynchronizer) -> bool:
    [status] = await synchronizer.status()
    return "another history" in (status.error or "")


async def test_a_parked_event_is_retried_only_as_the_event_that_it_was(engine: Engine, store: EventStore) -> None:
    synchronizer = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    balances = synchronizer.add(Fussy())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a"), deposited("a", 13), deposited("a", 2)), PATIENCE)
        async with engine.read_database.transaction() as transaction:
            await transaction.run(f"UPDATE twofold_parked SET event_id = '{FOREIGN}' WHERE position = 2")
        await synchronizer.control("balances").retry()

        async def is_told() -> bool:
            first, *_ = await synchronizer.control("balances").parked()
            return HistoryChangedError.__name__ in first.cause

        await until(is_told)
        assert await balances.get("a") == Balance("a", "ann")


async def test_what_is_neither_parked_nor_in_the_log_cannot_be_skipped(engine: Engine, store: EventStore) -> None:
    synchronizer = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    synchronizer.add(Balances())
    await synchronizer.prepare()
    await write(store, opened("a"))
    with pytest.raises(ValueError, match="event 2 is not parked, and the log does not hold it"):
        await synchronizer.control("balances").skip(2, reason="it may come")
    assert await synchronizer.control("balances").skipped() == []


async def test_the_checkpoint_of_an_inline_read_model_names_its_event(engine: Engine, store: EventStore) -> None:
    synchronizer = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    synchronizer.add(Balances(), kind="inline")
    await synchronizer.prepare()
    await write(store, opened("a"), deposited("a"))
    mark = await store.log.mark(2)
    assert mark
    rows = await engine.read_database.query("SELECT position, event_id FROM twofold_checkpoints")
    assert rows == [(2, mark.text)]
