"""Read models in step with the log; kills and races of processes, see `tests/campaigns/read_models`."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Annotated, Any

import pytest
from tests.accounts import Balance, Balances, Deposited, Opened, Withdrawn
from tests.recording_log import RecordingLog
from tests.synchronizing import PATIENCE, QUICK, deposited, opened, quick, running, until, write

from twofold import EventStore, Key, Projection, ProjectionState, ReadModelSynchronizer, on
from twofold.engines.engine import Engine
from twofold.errors import InvalidProjectionError, StaleReadError, StorageUnavailableError
from twofold.ports.checkpoints import SQL


async def checkpoint(engine: Engine, name: str, generation: int = 1) -> int:
    [(position,)] = await engine.read_database.query(SQL["position_of"], name=name, generation=generation)
    return int(position)


class Owners(Projection[Balance]):
    """Handles one type of events only."""

    name = "owners"

    @on(Opened)
    def opened(self, event: Opened) -> Balance:
        return Balance(event.account, event.owner)


class Fussy(Balances):
    """Fails on deposits of 13, until it is mended."""

    name = "fussy"
    on_failure = "stop"
    mended = False

    @on(Deposited)
    def deposited(self, row: Balance, event: Deposited) -> Balance:
        if event.amount == 13 and not self.mended:
            raise ArithmeticError("unlucky")
        return super().deposited(row, event)


async def test_it_catches_up_and_then_follows(engine: Engine, store: EventStore) -> None:
    runner = ReadModelSynchronizer(store, engine.read_database, batch_size=4, options=QUICK)
    balances = runner.add(Balances())
    await write(store, opened("a"), *(deposited("a") for _ in range(20)))
    async with running(runner):
        await runner.wait(21, PATIENCE)
        assert await balances.get("a") == Balance("a", "ann", Decimal(20), 20)
        await runner.wait(await write(store, deposited("a", 5)), PATIENCE)
        assert await balances.get("a") == Balance("a", "ann", Decimal(25), 21)
        [status] = await runner.status()
    assert (status.name, status.state, status.position, status.head, status.behind) == (
        "balances", ProjectionState.LIVE, 22, 22, 0,
    )  # fmt: skip


async def test_a_restart_goes_on_from_the_checkpoint_and_applies_nothing_twice(
    engine: Engine, store: EventStore
) -> None:
    await write(store, opened("a"))
    for count in range(1, 6):
        runner = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
        balances = runner.add(Balances())
        position = await write(store, deposited("a"))
        async with running(runner):
            await runner.wait(position, PATIENCE)
        assert await balances.get("a") == Balance("a", "ann", Decimal(count), count)


async def test_after_a_restart_with_nothing_to_do_a_projection_is_live(engine: Engine, store: EventStore) -> None:
    position = await write(store, opened("a"), deposited("a"))
    for _ in range(2):
        runner = ReadModelSynchronizer(store, engine.read_database, [Balances()], options=QUICK)
        async with running(runner):
            await runner.wait(position, PATIENCE)

            async def live(runner: ReadModelSynchronizer = runner) -> bool:
                return (await runner.status())[0].state is ProjectionState.LIVE

            await until(live)


async def test_a_failing_event_stops_its_projection_right_there_and_no_other(
    engine: Engine, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "twofold.synchronizer.segments")
    runner = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    fussy, balances = runner.add(Fussy()), runner.add(Balances())
    await write(store, opened("a"), deposited("a", 2), deposited("a", 13), deposited("a", 4))
    async with running(runner):
        await runner.wait(4, PATIENCE, ["balances"])
        with pytest.raises(StaleReadError, match="fussy at 2"):
            await runner.wait(4, 0.2)

        async def faulted() -> bool:
            return (await runner.status())[0].state is ProjectionState.FAULTED

        await until(faulted)
        status = (await runner.status())[0]
        assert (status.position, status.behind) == (2, 2)
        assert "projection fussy failed on event 3 (Deposited): ArithmeticError: unlucky" in str(status.error)
        assert await fussy.get("a") == Balance("a", "ann", Decimal(2), 1)
        assert await balances.get("a") == Balance("a", "ann", Decimal(19), 3)


async def test_mended_code_goes_on_at_the_event_that_failed(
    engine: Engine, store: EventStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "twofold.synchronizer.segments")
    runner = ReadModelSynchronizer(store, engine.read_database, batch_size=3, options=QUICK)
    fussy = runner.add(Fussy())
    await write(store, opened("a"), *(deposited("a", amount) for amount in (2, 13, 4, 5, 6, 7)))
    async with running(runner):
        await runner.wait(2, PATIENCE)
        monkeypatch.setattr(Fussy, "mended", True)
        await runner.wait(7, PATIENCE)
        assert await fussy.get("a") == Balance("a", "ann", Decimal(37), 6)

        async def live() -> bool:
            [status] = await runner.status()
            return (status.state, status.error) == (ProjectionState.LIVE, None)

        await until(live)


@dataclass(frozen=True)
class Strict:
    account: Annotated[str, Key()]
    number: int = 0


class Unstorable(Projection[Strict]):
    """Makes a row that no table can hold for the account `bad`."""

    name = "unstorable"
    on_failure = "stop"

    @on(Opened)
    def opened(self, event: Opened) -> Strict:
        return Strict(event.account, None if event.account == "bad" else 1)  # type: ignore[arg-type]


async def test_a_row_that_cannot_be_stored_stops_it_exactly_at_its_event(
    engine: Engine, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "twofold.synchronizer.segments")
    runner = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    rows = runner.add(Unstorable())
    await write(store, *(opened(account) for account in ("a", "b", "bad", "c")))
    async with running(runner):
        await runner.wait(2, PATIENCE)

        async def named() -> bool:
            return "failed on event 3 (Opened)" in str((await runner.status())[0].error)

        await until(named)
        assert [row.account for row in (await rows.page()).items] == ["a", "b"]


async def test_an_event_that_cannot_be_read_stops_it_exactly_there(
    engine: Engine, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "twofold.synchronizer.segments")

    @dataclass(frozen=True, kw_only=True)
    class Deposited:
        account: str
        amount: str

    await write(store, opened("a"), opened("b"))
    await EventStore(engine.log).append([Deposited(account="a", amount="not a number")])
    await write(store, opened("c"))
    runner = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    runner.add(Balances())
    async with running(runner):
        await runner.wait(2, PATIENCE)

        async def named() -> bool:
            return "event 3 (Deposited, schema version 1) cannot be read" in str((await runner.status())[0].error)

        await until(named)
        assert (await runner.status())[0].position == 2


async def test_the_checkpoint_moves_over_events_that_are_not_handled_even_when_nothing_follows(
    engine: Engine, store: EventStore
) -> None:
    runner = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    runner.add(Owners())
    async with running(runner):
        await runner.wait(await write(store, opened("a")), PATIENCE)
        for _ in range(5):
            await runner.wait(await write(store, deposited("a")), PATIENCE)

        async def saved() -> bool:
            return await checkpoint(engine, "owners") == 6

        await until(saved)


async def test_a_process_that_projects_nothing_sees_what_another_has_skipped(engine: Engine, store: EventStore) -> None:
    web, worker = (ReadModelSynchronizer(store, engine.read_database, [Owners()], options=QUICK) for _ in range(2))
    async with running(worker):
        for _ in range(3):
            await web.wait(await write(store, deposited("a")), PATIENCE)


async def test_two_at_once_never_apply_an_event_twice(engine: Engine, store: EventStore) -> None:
    runners = [ReadModelSynchronizer(store, engine.read_database, batch_size=7, options=QUICK) for _ in range(3)]
    balances, *_ = [runner.add(Balances()) for runner in runners]
    await write(store, opened("a"), opened("b"))
    async with running(runners[0]), running(runners[1]), running(runners[2]):
        for _ in range(60):
            position = await write(store, deposited("a"), deposited("b", 2))
        await asyncio.gather(*(runner.wait(position, PATIENCE) for runner in runners))
    assert await balances.get("a") == Balance("a", "ann", Decimal(60), 60)
    assert await balances.get("b") == Balance("b", "ann", Decimal(120), 60)


class BalancesOfTwo(Balances):
    version = 2

    @on(Opened)
    def opened(self, event: Opened) -> Balance:
        return Balance(event.account, event.owner.upper())


async def test_a_new_version_is_built_and_takes_over_by_itself(engine: Engine, store: EventStore) -> None:
    await write(store, opened("a"), deposited("a"))
    async with running(ReadModelSynchronizer(store, engine.read_database, [Balances()], options=QUICK)) as first:
        await first.wait(2, PATIENCE)
    second = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    balances = second.add(BalancesOfTwo())
    async with running(second):

        async def new() -> bool:
            return await balances.get("a") == Balance("a", "ANN", Decimal(1), 1)

        await until(new)
        await second.wait(await write(store, deposited("a")), PATIENCE)
        assert await balances.get("a") == Balance("a", "ANN", Decimal(2), 2)


async def test_old_and_new_versions_of_the_code_run_side_by_side(engine: Engine, store: EventStore) -> None:
    old, new = (ReadModelSynchronizer(store, engine.read_database, options=quick(lease=0.5)) for _ in range(2))
    before, after = old.add(Balances()), new.add(BalancesOfTwo())
    await write(store, opened("a"))
    async with running(old):
        await old.wait(1, PATIENCE)
        async with running(new):

            async def taken_over() -> bool:
                return await after.get("a") == Balance("a", "ANN")

            await until(taken_over)
            position = await write(store, opened("b"))
            await asyncio.gather(old.wait(position, PATIENCE), new.wait(position, PATIENCE))
            assert {row.owner for row in (await before.page()).items} == {"ann"}
            assert {row.owner for row in (await after.page()).items} == {"ANN"}


async def test_rows_that_changed_without_a_new_version_are_refused_at_the_start(
    engine: Engine, store: EventStore
) -> None:
    @dataclass(frozen=True)
    class Changed:
        account: Annotated[str, Key()]
        more: str = ""

    class ChangedBalances(Projection[Changed]):
        name = "balances"

        @on(Opened)
        def opened(self, event: Opened) -> Changed:
            return Changed(event.account)

    await ReadModelSynchronizer(store, engine.read_database, [Balances()], options=QUICK).prepare()
    with pytest.raises(InvalidProjectionError, match=r"the columns of balances__1 changed .* raise `version`"):
        await ReadModelSynchronizer(store, engine.read_database, [ChangedBalances()], options=QUICK).run()


async def test_what_cannot_work_is_refused_when_it_is_added(engine: Engine, store: EventStore) -> None:
    class Idle(Projection[Balance]):
        name = "idle"

    class Odd(Projection[Balance]):
        name = "odd"

        @on(Opened)
        def opened(self, one: Any, two: Any, three: Any) -> None: ...

    runner = ReadModelSynchronizer(store, engine.read_database, [Balances()], options=QUICK)
    with pytest.raises(InvalidProjectionError, match="named 'balances' already"):
        runner.add(Balances())
    with pytest.raises(InvalidProjectionError, match=r"idle handles no event; mark a method with @on"):
        runner.add(Idle())
    with pytest.raises(InvalidProjectionError, match=r"must take \(self, event\) or"):
        runner.add(Odd())


async def test_it_waits_while_the_log_is_away_and_goes_on(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    log = RecordingLog(engine.log)
    store = EventStore(log)
    runner = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    balances = runner.add(Balances())
    async with running(runner):
        await runner.wait(await write(store, opened("a")), PATIENCE)
        log.away = True
        before = log.calls["compare"]
        await EventStore(engine.log).append([deposited("a")])
        async with asyncio.timeout(PATIENCE):
            await log.asked("compare", before + 3)
        log.away = False
        await runner.wait(2, PATIENCE)
        assert await balances.get("a") == Balance("a", "ann", Decimal(1), 1)


async def test_it_waits_while_the_read_database_is_away_and_says_so(
    engine: Engine, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    balances = runner.add(Balances())
    commit, tries = type(engine.read_database).commit, 0

    async def away(*arguments: Any) -> None:
        nonlocal tries
        tries += 1
        if tries <= 3:
            raise StorageUnavailableError("the read database is away, says the test")
        await commit(*arguments)

    monkeypatch.setattr(type(engine.read_database), "commit", away)
    await write(store, opened("a"), deposited("a"))
    async with running(runner):
        await runner.wait(2, PATIENCE)
    assert tries == 4
    assert await balances.get("a") == Balance("a", "ann", Decimal(1), 1)


async def test_the_status_of_what_never_ran_is_new(engine: Engine, store: EventStore) -> None:
    runner = ReadModelSynchronizer(store, engine.read_database, [Balances()], options=QUICK)
    await write(store, opened("a"), Withdrawn(account="a", amount=Decimal(1)))
    [status] = await runner.status()
    assert (status.state, status.position, status.behind, status.error) == (ProjectionState.NEW, 0, 2, None)


async def test_deleted_rows_stay_deleted(engine: Engine, store: EventStore) -> None:
    class Open(Owners):
        name = "open_accounts"

        @on(Withdrawn)
        def closed(self, row: Balance, event: Withdrawn) -> None:
            return None

    runner = ReadModelSynchronizer(store, engine.read_database, batch_size=1, options=QUICK)
    accounts = runner.add(Open())
    gone = Withdrawn(account="a", amount=Decimal(1))
    async with running(runner):
        await runner.wait(await write(store, opened("a"), opened("b"), gone), PATIENCE)
        assert [row.account for row in (await accounts.page()).items] == ["b"]
        await runner.wait(await write(store, opened("a")), PATIENCE)
        assert [row.account for row in (await accounts.page()).items] == ["a", "b"]


@dataclass(frozen=True)
class Tally:
    """A row that its projection changes in place, which it should not."""

    account: Annotated[str, Key()]
    number: int = 0


class Careless(Projection[Tally]):
    name = "careless"
    fails = 3

    @on(Deposited)
    def deposited(self, row: Tally | None, event: Deposited) -> Tally:
        row = row or Tally(event.account)
        object.__setattr__(row, "number", row.number + 1)  # past the class, which is frozen
        if event.amount == 13 and self.fails:
            self.fails -= 1
            raise ArithmeticError("not yet")
        return row


async def test_what_a_failed_attempt_did_to_a_row_is_not_remembered(engine: Engine, store: EventStore) -> None:
    runner = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    tallies = runner.add(Careless())
    async with running(runner):
        for amount in (1, 13, 1):
            await runner.wait(await write(store, deposited("a", amount)), PATIENCE)
        assert await tallies.get("a") == Tally("a", 3)


async def test_rows_that_somebody_changes_under_a_raised_epoch_are_read_again(
    engine: Engine, store: EventStore
) -> None:
    runner = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    balances = runner.add(Balances())
    async with running(runner):
        await runner.wait(await write(store, opened("a"), deposited("a", 2)), PATIENCE)
        async with engine.read_database.transaction() as transaction:
            await transaction.run("UPDATE balances__1 SET changes = 100")
            await transaction.run(SQL["fence"], name="balances", generation=1)
        await runner.wait(await write(store, deposited("a", 3)), PATIENCE)
        assert await balances.get("a") == Balance("a", "ann", Decimal(5), 101)


async def test_many_read_models_read_what_is_new_together(engine: Engine) -> None:
    log, commits, names = RecordingLog(engine.log), 10, [f"balances_{number}" for number in range(20)]
    store = EventStore(log)
    synchronizer = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    models = [synchronizer.add(named_balances(name)) for name in names]
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        log.calls.clear()
        for _ in range(commits):
            await synchronizer.wait(await write(store, deposited("a")), PATIENCE)
        assert log.calls["scan"] < commits * len(names) / 2
        for balances in models:
            assert await balances.get("a") == Balance("a", "ann", Decimal(commits), commits)


async def test_many_new_read_models_read_a_long_log_about_once(engine: Engine) -> None:
    log, events = RecordingLog(engine.log), 2000
    store = EventStore(log)
    synchronizer = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    models = [synchronizer.add(named_balances(f"balances_{number}")) for number in range(10)]
    head = await write(store, opened("a"), *(deposited("a") for _ in range(events)))
    async with running(synchronizer):
        await synchronizer.wait(head, PATIENCE)
    assert log.rows_scanned < 5 * events  # some begin by themselves; it would be 10 times
    for balances in models:
        assert await balances.get("a") == Balance("a", "ann", Decimal(events), events)


def named_balances(name: str) -> Balances:
    projection = Balances()
    projection.name = name  # type: ignore[misc]
    return projection


async def test_events_that_gather_are_shown_as_soon_as_a_query_waits_for_them(
    engine: Engine, store: EventStore
) -> None:
    options = replace(QUICK, gathering=100 * PATIENCE, gathered=0)
    runner = ReadModelSynchronizer(store, engine.read_database, options=options)
    runner.add(Balances())
    async with running(runner):
        await runner.wait(await write(store, opened("a")), PATIENCE)
        for _ in range(5):
            last = await write(store, deposited("a"), deposited("a"))
        await runner.wait(last, PATIENCE)
