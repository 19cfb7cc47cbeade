"""The life of a read model: new, catching up, live, paused, faulted, rebuilding, detached; and who commands it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.accounts import Balance, Balances, Deposited, Opened
from tests.synchronizing import PATIENCE, QUICK, deposited, opened, quick, running, until, write

from twofold import EventStore, Projection, ProjectionState, ReadModelSynchronizer, on
from twofold.engines.engine import Engine
from twofold.errors import InvalidProjectionError, StaleReadError
from twofold.ports.checkpoints import SQL
from twofold.projections.fingerprint import fingerprint
from twofold.synchronizer.status import ProjectionStatus, SegmentStatus


@pytest.fixture
def synchronizer(engine: Engine, store: EventStore) -> ReadModelSynchronizer:
    return ReadModelSynchronizer(store, engine.read_database, batch_size=10, options=QUICK)


async def state(synchronizer: ReadModelSynchronizer) -> ProjectionState:
    return (await synchronizer.status())[0].state


async def test_every_process_sees_the_same_status(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore
) -> None:
    synchronizer.add(Balances())
    onlooker = ReadModelSynchronizer(store, engine.read_database, [Balances()], options=QUICK)
    assert await state(onlooker) is ProjectionState.NEW
    position = await write(store, opened("a"))
    async with running(synchronizer):
        await synchronizer.wait(position, PATIENCE)
        assert await onlooker.status() == await synchronizer.status()
        assert await state(onlooker) is ProjectionState.LIVE
    without_code = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    assert await state(without_code) is ProjectionState.DETACHED
    await write(store, opened("b"))
    assert await state(onlooker) is ProjectionState.CATCHING_UP


async def test_a_paused_read_model_stands_still_until_it_is_resumed(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    balances = synchronizer.add(Balances())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        await synchronizer.control("balances").pause()
        position = await write(store, deposited("a"))
        with pytest.raises(StaleReadError):
            await synchronizer.wait(position, 0.3)
        assert (await state(synchronizer), await balances.get("a")) == (ProjectionState.PAUSED, Balance("a", "ann"))
        await synchronizer.control("balances").resume()
        await synchronizer.wait(position, PATIENCE)
        assert await state(synchronizer) is ProjectionState.LIVE


async def test_a_step_that_was_under_way_when_it_was_paused_is_not_committed(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()
    balances = synchronizer.add(Balances())
    commit = engine.read_database.commit

    async def held(*arguments: Any) -> Any:
        entered.set()
        await go_on.wait()
        return await commit(*arguments)

    monkeypatch.setattr(engine.read_database, "commit", held)
    async with running(synchronizer):
        await write(store, opened("a"))
        await asyncio.wait_for(entered.wait(), PATIENCE)
        await synchronizer.control("balances").pause()
        go_on.set()
        with pytest.raises(StaleReadError):
            await synchronizer.wait(1, 0.3)
    monkeypatch.setattr(engine.read_database, "commit", commit)
    assert await balances.get("a") is None


async def test_a_reset_empties_it_and_begins_again(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore
) -> None:
    balances = synchronizer.add(Balances())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a"), deposited("a")), PATIENCE)
        async with engine.read_database.transaction() as transaction:
            await transaction.run("UPDATE balances__1 SET owner = 'eve'")
        await synchronizer.control("balances").reset()
        await synchronizer.wait(2, PATIENCE)
        assert await balances.get("a") == Balance("a", "ann", Decimal(1), 1)


async def test_it_goes_on_behind_the_position_that_it_is_set_to(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    balances = synchronizer.add(Balances())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a"), deposited("a")), PATIENCE)
        await synchronizer.control("balances").set_position(1)

        async def applied_again() -> bool:
            return await balances.get("a") == Balance("a", "ann", Decimal(2), 2)

        await until(applied_again)
    with pytest.raises(ValueError, match="positions begin at 1"):
        await synchronizer.control("balances").set_position(-1)


async def test_it_may_begin_with_what_comes_after_it_was_first_added(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore
) -> None:
    await write(store, opened("a"))
    for account in ("b", "c"):
        later = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
        balances = later.add(Balances(), start="now")
        await later.prepare()
        position = await write(store, opened(account))
        async with running(later):
            await later.wait(position, PATIENCE)
    assert [row.account for row in (await balances.page()).items] == ["b", "c"]


async def test_it_may_run_once(synchronizer: ReadModelSynchronizer, store: EventStore) -> None:
    balances = synchronizer.add(Balances())
    await write(store, opened("a"), *(deposited("a") for _ in range(50)))
    assert await synchronizer.run_once() == 51
    assert await balances.get("a") == Balance("a", "ann", Decimal(50), 50)
    assert await synchronizer.run_once() == 51
    with pytest.raises(TimeoutError):
        await synchronizer.run_once(timeout=0.0)


async def test_code_that_changed_without_a_new_version_is_noticed(
    engine: Engine, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    class Changed(Balances):
        @on(Deposited)
        def deposited(self, row: Balance, event: Deposited) -> Balance:
            return Balance(row.account, row.owner, row.amount + 2 * event.amount, row.changes + 1)

    await ReadModelSynchronizer(store, engine.read_database, [Balances()], options=QUICK).prepare()
    await ReadModelSynchronizer(
        store, engine.read_database, [Balances()], changed_code="refuse", options=QUICK
    ).prepare()
    await ReadModelSynchronizer(store, engine.read_database, [Changed()], options=QUICK).prepare()
    assert "the code of balances changed (deposited) and its version did not" in caplog.text
    with pytest.raises(InvalidProjectionError, match=r"changed \(deposited\) .* Raise `version`, or call rebuild"):
        await ReadModelSynchronizer(
            store, engine.read_database, [Changed()], changed_code="refuse", options=QUICK
        ).prepare()
    await ReadModelSynchronizer(
        store, engine.read_database, [Changed()], changed_code="ignore", options=QUICK
    ).prepare()


def test_comments_docstrings_and_layout_are_no_change_of_the_code() -> None:
    class One(Balances):
        @on(Opened)
        def opened(self, event: Opened) -> Balance:
            """Make a row."""
            return Balance(event.account, event.owner)  # as it was

    class Two(Balances):
        @on(Opened)
        def opened(self, event: Opened) -> Balance:
            return Balance(
                event.account,
                event.owner,
            )

    class Three(Balances):
        @on(Opened)
        def opened(self, event: Opened) -> Balance:
            return Balance(event.account, event.owner or "nobody")

    one, two, three = (fingerprint(cls, until=Projection) for cls in (One, Two, Three))
    assert one == two
    assert one == {**three, "opened": one["opened"]} != three


def status(**facts: object) -> ProjectionStatus:
    defaults: dict[str, object] = {
        "name": "a", "version": 1, "generation": 1, "state": ProjectionState.LIVE, "position": 1, "head": 1,
    }  # fmt: skip
    return ProjectionStatus(**{**defaults, **facts})  # type: ignore[arg-type]


def segment(**facts: object) -> SegmentStatus:
    defaults: dict[str, object] = {
        "first": 0, "end": 256, "position": 1, "lag": timedelta(), "worker": "", "unattended": timedelta(),
    }  # fmt: skip
    return SegmentStatus(**{**defaults, **facts})  # type: ignore[arg-type]


def test_what_is_late_unattended_parked_or_at_a_stand_is_not_healthy() -> None:
    second = timedelta(seconds=1)
    assert status().problems == []
    assert status(lag=3 * second).problems == []
    assert status(lag=3 * second, max_lag=2 * second).problems == ["is 3.0 s late, 2 s are allowed"]
    assert status(parked=2).problems == ["2 events are parked"]
    assert status(error="broken").problems == ["stands still: broken"]
    assert status(segments=[segment(unattended=3 * second)]).problems == []
    assert status(segments=[segment(unattended=31 * second)]).problems == [
        "no worker has worked on it for 31.0 s; start one, or pause it"
    ]
    assert status(segments=[segment(unattended=3 * second)], max_lag=2 * second).problems != []


async def test_lag_is_the_age_of_the_oldest_event_that_waits(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    class Late(Balances):
        max_lag = timedelta(milliseconds=50)

    synchronizer.add(Late())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        assert (await synchronizer.status())[0].lag == timedelta()
        await synchronizer.control("balances").pause()
        await write(store, deposited("a"))

        async def late() -> bool:
            [status] = await synchronizer.status()
            return status.lag > timedelta(milliseconds=50) and "late" in status.problems[0]

        await until(late)
        await synchronizer.control("balances").resume()
        await synchronizer.wait(2, PATIENCE)
        assert (await synchronizer.status())[0].problems == []


async def test_a_dead_worker_is_red_even_if_nothing_happens(engine: Engine, store: EventStore) -> None:
    class Watched(Balances):
        max_lag = timedelta(milliseconds=200)

    synchronizer = ReadModelSynchronizer(store, engine.read_database, [Watched()], options=quick(lease=0.2))
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        assert (await synchronizer.status())[0].problems == []

    async def red() -> bool:
        return any("no worker has worked on it" in each for each in (await synchronizer.status())[0].problems)

    await until(red)


async def test_a_projection_never_overtakes_the_one_that_it_follows(engine: Engine, store: EventStore) -> None:
    class After(Balances):
        name = "after"
        follows = ("balances",)

    synchronizer = ReadModelSynchronizer(store, engine.read_database, batch_size=3, options=QUICK)
    synchronizer.add(Balances())
    synchronizer.add(After())
    with pytest.raises(InvalidProjectionError, match="after follows 'balances'; add that one before it"):
        ReadModelSynchronizer(store, engine.read_database, [After(), Balances()], options=QUICK)
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        await synchronizer.control("balances").pause()
        position = await write(store, *(deposited("a") for _ in range(10)))
        with pytest.raises(StaleReadError, match="after at 1"):
            await synchronizer.wait(position, 0.3, ["after"])
        await synchronizer.control("balances").resume()
        await synchronizer.wait(position, PATIENCE)


async def test_what_was_parked_is_forgotten_when_it_is_set_back(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore
) -> None:
    synchronizer.add(Balances())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, deposited("a")), PATIENCE)
        assert len(await synchronizer.control("balances").parked()) == 1
        await synchronizer.control("balances").pause()
        await synchronizer.control("balances").set_position(1)
    assert await engine.read_database.query(SQL["parked_counts"]) == []
