"""Events that fail are parked with the later ones of their row, and are released in order."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from tests.accounts import Balance, Balances, Deposited
from tests.synchronizing import PATIENCE, QUICK, deposited, opened, running, until, write

from twofold import Event, EventStore, ProjectionState, ReadModelSynchronizer, on
from twofold.engines.engine import Engine
from twofold.errors import StorageFullError, UnknownProjectionError
from twofold.ports.checkpoints import SQL, Checkpoint, advance
from twofold.ports.read_database import Changes
from twofold.ports.segments import Segment, Step


class Fussy(Balances):
    """Fails on deposits of 13, until it is mended."""

    name = "fussy"
    mended = False

    @on(Deposited)
    def deposited(self, row: Balance, event: Deposited) -> Balance:
        if event.amount == 13 and not self.mended:
            raise ArithmeticError("unlucky")
        return super().deposited(row, event)


@pytest.fixture
def synchronizer(engine: Engine, store: EventStore) -> ReadModelSynchronizer:
    return ReadModelSynchronizer(store, engine.read_database, batch_size=4, options=QUICK)


async def test_a_failing_event_and_the_later_ones_of_its_row_wait_and_other_rows_go_on(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    fussy = synchronizer.add(Fussy())
    amounts = [("a", 2), ("b", 1), ("a", 13), ("b", 1), ("a", 4), ("a", 13), ("b", 1), ("a", 5)]
    position = await write(store, opened("a"), opened("b"), *(deposited(account, n) for account, n in amounts))
    async with running(synchronizer):
        await synchronizer.wait(position, PATIENCE)
        assert await fussy.get("a") == Balance("a", "ann", Decimal(2), 1)
        assert await fussy.get("b") == Balance("b", "ann", Decimal(3), 3)
        parked = await synchronizer.control("fussy").parked()
        assert [(each.position, each.key, each.cause) for each in parked] == [
            (5, '["a"]', "ArithmeticError: unlucky"), (7, '["a"]', ""), (8, '["a"]', ""), (10, '["a"]', ""),
        ]  # fmt: skip
        assert 'raise ArithmeticError("unlucky")' in parked[0].traceback
        [status] = await synchronizer.status()
        assert (status.state, status.parked, status.problems) == (ProjectionState.LIVE, 4, ["4 events are parked"])


async def test_what_is_parked_stays_so_through_a_restart(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore
) -> None:
    synchronizer.add(Fussy())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a"), deposited("a", 13)), PATIENCE)
    again = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    fussy = again.add(Fussy())
    async with running(again):
        await again.wait(await write(store, deposited("a", 1), opened("b"), deposited("b", 1)), PATIENCE)
        assert [each.position for each in await again.control("fussy").parked()] == [2, 3]
        assert await fussy.get("b") == Balance("b", "ann", Decimal(1), 1)


async def test_mended_code_and_a_retry_let_them_in_in_order(
    synchronizer: ReadModelSynchronizer, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fussy = synchronizer.add(Fussy())
    await write(store, opened("a"), *(deposited("a", amount) for amount in (13, 1, 2)))
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("b"), deposited("b", 13)), PATIENCE)
        monkeypatch.setattr(Fussy, "mended", True)
        assert await synchronizer.control("fussy").retry("a") == 3

        async def let_in() -> bool:
            return await fussy.get("a") == Balance("a", "ann", Decimal(16), 3)

        await until(let_in)
        assert [each.key for each in await synchronizer.control("fussy").parked()] == ['["b"]']
        await synchronizer.wait(await write(store, deposited("a", 4)), PATIENCE)
        assert await fussy.get("a") == Balance("a", "ann", Decimal(20), 4)
        assert await synchronizer.control("fussy").retry() == 1

        async def nothing_is_parked() -> bool:
            return not await synchronizer.control("fussy").parked()

        await until(nothing_is_parked)


async def test_a_retry_of_what_still_fails_leaves_it_and_the_later_ones_parked(
    synchronizer: ReadModelSynchronizer, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fussy = synchronizer.add(Fussy())
    await write(store, opened("a"), *(deposited("a", amount) for amount in (13, 1, 14, 2)))
    async with running(synchronizer):
        await synchronizer.wait(5, PATIENCE)

        def half_mended(self: Fussy, row: Balance, event: Deposited) -> Balance:
            if event.amount == 14:
                raise ArithmeticError("not yet")
            return Balances.deposited(self, row, event)

        monkeypatch.setattr(Fussy, "deposited", half_mended)
        monkeypatch.setattr(Fussy, "_folds", None)
        monkeypatch.setattr(half_mended, "__twofold_on__", (Deposited,), raising=False)
        await synchronizer.control("fussy").retry()

        async def two_are_left() -> bool:
            parked = await synchronizer.control("fussy").parked()
            return [(each.position, each.cause) for each in parked] == [(4, "ArithmeticError: not yet"), (5, "")]

        await until(two_are_left)
        assert await fussy.get("a") == Balance("a", "ann", Decimal(14), 2)


async def test_a_skipped_event_is_left_out_with_its_reason_and_the_later_ones_come_in(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    fussy = synchronizer.add(Fussy())
    await write(store, opened("a"), *(deposited("a", amount) for amount in (13, 1, 2)))
    async with running(synchronizer):
        await synchronizer.wait(4, PATIENCE)
        await synchronizer.control("fussy").skip(2, reason="booked twice, see ticket 4711")

        async def let_in() -> bool:
            return await fussy.get("a") == Balance("a", "ann", Decimal(3), 2)

        await until(let_in)
        [decision] = await synchronizer.control("fussy").skipped()
        assert (decision.position, decision.key, decision.cause, decision.reason) == (
            2, '["a"]', "ArithmeticError: unlucky", "booked twice, see ticket 4711",
        )  # fmt: skip
        report = await synchronizer.rebuild_projection("fussy", expect_same=True)
        assert report.rows_after == 1
        assert await fussy.get("a") == Balance("a", "ann", Decimal(3), 2)


async def test_discarded_events_are_left_out_and_later_ones_come_in(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    fussy = synchronizer.add(Fussy())
    await write(store, opened("a"), *(deposited("a", amount) for amount in (1, 13, 2)))
    async with running(synchronizer):
        await synchronizer.wait(4, PATIENCE)
        assert await synchronizer.control("fussy").skip_row("a", reason="test data") == 2
        await synchronizer.wait(await write(store, deposited("a", 4)), PATIENCE)
        assert await fussy.get("a") == Balance("a", "ann", Decimal(5), 2)
        assert [each.reason for each in await synchronizer.control("fussy").skipped()] == ["test data", "test data"]


@pytest.mark.parametrize("position", [2, 3], ids=["retried", "reached"])
async def test_an_event_that_comes_in_at_this_moment_is_not_left_out_any_more(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore, position: int
) -> None:
    """Fails if what a step is about to change is read before the step has ended."""
    synchronizer.add(Fussy())
    await write(store, opened("a"), deposited("a", 13))
    async with running(synchronizer):
        await synchronizer.wait(2, PATIENCE)
    await write(store, opened("b"))
    [row] = [Checkpoint(*row) for row in await engine.read_database.query(SQL["checkpoints"])]
    step = Step(Segment(row.name, row.generation, row.first, row.end), row.epoch, row.position, position, 1.0)
    async with engine.read_database.transaction() as transaction:
        assert await advance(transaction, Changes(released=[(position, '["a"]')] if position == 2 else []), step)
        skipping = asyncio.create_task(synchronizer.control("fussy").skip(position, reason="too late"))
        await asyncio.sleep(0.2)  # time to read, if it does not wait
        assert not skipping.done()
    with pytest.raises(ValueError, match=f"event {position} is in the read model fussy already"):
        await skipping
    assert await synchronizer.control("fussy").skipped() == []


async def test_a_decision_wants_a_reason_and_a_projection_that_there_is(synchronizer: ReadModelSynchronizer) -> None:
    synchronizer.add(Fussy())
    await synchronizer.prepare()
    with pytest.raises(ValueError, match="say why"):
        await synchronizer.control("fussy").skip(1, reason=" ")
    with pytest.raises(UnknownProjectionError, match="there is no projection 'other'; there are: fussy"):
        await synchronizer.control("other").skip(1, reason="because")


def unlike_ours(account: str) -> Event:
    """Return an event as another program stores it under the name of ours; no class of ours is a base of its class."""

    @dataclass(frozen=True, kw_only=True)
    class Deposited(Event):
        account: str

    return Deposited(account=account)


async def test_an_event_that_cannot_be_read_holds_it_up_until_it_is_skipped(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "twofold.synchronizer.segments")
    balances = synchronizer.add(Balances())
    await write(store, opened("a"))
    await EventStore(engine.log).append([unlike_ours("a")])
    async with running(synchronizer):
        position = await write(store, deposited("a", 3))

        async def held_up() -> bool:
            [status] = await synchronizer.status()
            return status.state is ProjectionState.FAULTED and "event 2 (Deposited" in str(status.error)

        await until(held_up)
        await synchronizer.control("balances").skip(2, reason="written by another program")
        await synchronizer.wait(position, PATIENCE)
        assert await balances.get("a") == Balance("a", "ann", Decimal(3), 1)


async def test_a_row_that_cannot_be_stored_parks_its_event_alone(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    class Unstorable(Balances):
        name = "unstorable"

        @on(Deposited)
        def deposited(self, row: Balance, event: Deposited) -> Balance:
            return Balance(row.account, None if event.amount == 13 else row.owner, row.amount + event.amount)  # type: ignore[arg-type]

    rows = synchronizer.add(Unstorable())
    events = [deposited(account, amount) for account, amount in (("a", 1), ("b", 13), ("c", 1), ("b", 1), ("a", 1))]
    position = await write(store, opened("a"), opened("b"), opened("c"), *events)
    async with running(synchronizer):
        await synchronizer.wait(position, PATIENCE)
        assert [each.position for each in await synchronizer.control("unstorable").parked()] == [5, 7]
        assert {row.account: row.amount for row in (await rows.page()).items} == {"a": 2, "b": 0, "c": 1}


async def test_a_database_that_fails_parks_nothing(
    synchronizer: ReadModelSynchronizer,
    engine: Engine,
    store: EventStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("CRITICAL", "twofold.synchronizer.segments")
    balances, commit, tries = synchronizer.add(Balances()), type(engine.read_database).commit, 0

    async def fail(*arguments: Any) -> None:
        nonlocal tries
        tries += 1
        if tries <= 20:
            raise StorageFullError("the disk is full, says the test")
        await commit(*arguments)

    monkeypatch.setattr(type(engine.read_database), "commit", fail)
    await write(store, opened("a"), deposited("a"))
    async with running(synchronizer):
        await synchronizer.wait(2, PATIENCE)
    assert await synchronizer.control("balances").parked() == []
    assert await balances.get("a") == Balance("a", "ann", Decimal(1), 1)
