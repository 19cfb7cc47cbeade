"""A read model is built anew beside the one that serves, verified, and takes over in one transaction."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

import pytest
from tests.accounts import Balance, Balances, Deposited, Opened
from tests.synchronizing import PATIENCE, QUICK, deposited, never_finished, opened, running, until, write

from twofold import EventStore, Key, Projection, ReadModelSynchronizer, on
from twofold.engines.engine import Engine
from twofold.errors import ReadModelBuildingError, RebuildFailedError, UnknownProjectionError
from twofold.options import QueryOptions
from twofold.ports.checkpoints import GRACE_OF_PREVIOUS, SQL
from twofold.synchronizer import takeover
from twofold.synchronizer.rebuild_checks import Report, verify_sample
from twofold.synchronizer.rebuild_progress import RebuildProgress
from twofold.synchronizer.segments.runner import SegmentRunner


@pytest.fixture
def synchronizer(engine: Engine, store: EventStore) -> ReadModelSynchronizer:
    return ReadModelSynchronizer(store, engine.read_database, batch_size=10, changed_code="ignore", options=QUICK)


class Breaking(Balances):
    """Fails on deposits while it is broken."""

    broken = False

    @on(Deposited)
    def deposited(self, row: Balance, event: Deposited) -> Balance:
        if self.broken:
            raise ArithmeticError("broken by the last release")
        return super().deposited(row, event)


async def roles(engine: Engine) -> list[tuple[int, str]]:
    return [(row[1], row[4]) for row in await engine.read_database.query(SQL["generations"])]


async def test_a_rebuild_mends_rows_and_keeps_the_earlier_ones_for_a_roll_back(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    balances = synchronizer.add(Balances())
    await write(store, opened("a"), *(deposited("a") for _ in range(30)))
    seen: list[RebuildProgress] = []
    async with running(synchronizer):
        await synchronizer.wait(31, PATIENCE)
        async with engine.read_database.transaction() as transaction:
            await transaction.run("UPDATE balances__1 SET amount = :wrong", wrong="666")
        assert await balances.get("a") == Balance("a", "ann", Decimal(666), 30)
        report = await synchronizer.rebuild_projection("balances", progress=seen.append)
        assert (report.reason, report.sampled, report.rows_before, report.rows_after) == ("", 1, 1, 1)
        assert await balances.get("a") == Balance("a", "ann", Decimal(30), 30)
        assert (seen[-1].position, seen[-1].head) == (31, 31)
        assert await roles(engine) == [(1, "previous"), (2, "serving")]
        await synchronizer.wait(await write(store, deposited("a")), PATIENCE)
        await synchronizer.control("balances").roll_back()
        assert await balances.get("a") == Balance("a", "ann", Decimal(667), 31)
        assert await roles(engine) == [(1, "serving"), (2, "previous")]
        assert await synchronizer.control("balances").drop_previous()
        assert not await synchronizer.control("balances").drop_previous()
        assert await roles(engine) == [(1, "serving")]


class Stopped(Breaking):
    """Comes before all others by its name, and stands still before the first deposit."""

    name = "a_stopped_one"
    on_failure = "stop"
    broken = True


async def test_a_takeover_that_always_fails_holds_up_no_other_and_is_forgotten_once_it_is_cancelled(
    synchronizer: ReadModelSynchronizer, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "twofold")
    synchronizer.add(Stopped())
    synchronizer.add(Balances())

    def fails_to_take_over(name: str) -> bool:
        return "cannot take over" in synchronizer.faults.get(name, "")

    async def failing() -> bool:
        return fails_to_take_over("a_stopped_one")

    async def forgotten() -> bool:
        return not fails_to_take_over("a_stopped_one")

    async with running(synchronizer):
        head = await write(store, opened("a"), deposited("a"))
        await synchronizer.wait(head, PATIENCE, ["balances"])
        rebuilding = asyncio.create_task(synchronizer.rebuild_projection("a_stopped_one"))
        await until(failing)
        async with asyncio.timeout(PATIENCE):
            assert not (await synchronizer.rebuild_projection("balances")).reason
        assert not fails_to_take_over("balances"), "the fault of one is not shown as that of another"
        assert fails_to_take_over("a_stopped_one"), "what another one does is no sign that it goes well"
        await synchronizer.control("a_stopped_one").cancel_rebuild()
        with pytest.raises(RebuildFailedError):
            await rebuilding
        await until(forgotten)


async def test_the_view_of_the_projections_name_shows_what_serves(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore
) -> None:
    synchronizer.add(Balances())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        await synchronizer.rebuild_projection("balances")
        await synchronizer.wait(await write(store, opened("b")), PATIENCE)
        await synchronizer.control("balances").drop_previous()
        rows = await engine.read_database.query("SELECT account FROM balances ORDER BY account")
        assert rows == [("a",), ("b",)]


async def test_rows_that_differ_from_the_earlier_ones_are_refused_if_they_must_not(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")
    balances = synchronizer.add(Balances())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a"), opened("b"), deposited("a")), PATIENCE)
        async with engine.read_database.transaction() as transaction:
            await transaction.run("UPDATE balances__1 SET owner = 'eve' WHERE account = 'a'")
        with pytest.raises(RebuildFailedError, match="1 rows of the one that serves are not so in it, 1 of its own"):
            await synchronizer.rebuild_projection("balances", expect_same=True)
        assert (await balances.get("a")) == Balance("a", "eve", Decimal(1), 1)
        await synchronizer.wait(await write(store, deposited("a")), PATIENCE)
        assert (await synchronizer.rebuild_projection("balances")).reason == ""
        assert (await balances.get("a")) == Balance("a", "ann", Decimal(2), 2)


@dataclass(frozen=True)
class Kinds:
    account: Annotated[str, Key()]
    deposits: dict[str, float]


class DepositsByKind(Projection[Kinds]):
    name = "deposits_by_kind"
    largest = 1e16

    @on(Deposited)
    def deposited(self, row: Kinds | None, event: Deposited) -> Kinds:
        return Kinds(event.account, {**(row.deposits if row else {}), "b": self.largest, "a": float(event.amount)})


async def test_fields_that_are_stored_as_json_are_compared_with_the_earlier_ones(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    projection = DepositsByKind()
    kinds = synchronizer.add(projection)
    await write(store, *(deposited("a", amount) for amount in range(1, 30)))
    async with running(synchronizer):
        await synchronizer.wait(29, PATIENCE)
        report = await synchronizer.rebuild_projection("deposits_by_kind", expect_same=True)
        assert (report.missing, report.added, report.rows_after) == (0, 0, 1)
        assert await kinds.get("a") == Kinds("a", {"b": 1e16, "a": 29.0})
        projection.largest = 2e16
        with pytest.raises(RebuildFailedError, match="1 rows of the one that serves are not so in it"):
            await synchronizer.rebuild_projection("deposits_by_kind", expect_same=True)


async def test_the_projections_own_check_may_refuse(
    synchronizer: ReadModelSynchronizer, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")

    class Checked(Balances):
        async def verify(self, rebuilt: Any) -> None:
            if await rebuilt.get("b"):
                raise AssertionError("there must be no account b")

    balances = synchronizer.add(Checked())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        await synchronizer.rebuild_projection("balances")
        await synchronizer.wait(await write(store, opened("b")), PATIENCE)
        with pytest.raises(RebuildFailedError, match="its own check says: there must be no account b"):
            await synchronizer.rebuild_projection("balances")
        assert await balances.get("b")


async def test_an_event_that_is_left_out_during_the_verification_does_not_come_in_with_the_new_generation(
    synchronizer: ReadModelSynchronizer,
    store: EventStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("CRITICAL")
    monkeypatch.setattr(Breaking, "broken", True)

    class Decided(Breaking):
        async def verify(self, rebuilt: Any) -> None:
            await synchronizer.control("balances").skip(2, reason="decided at the last moment")

    balances = synchronizer.add(Decided())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a"), deposited("a")), PATIENCE)
        monkeypatch.setattr(Breaking, "broken", False)
        with pytest.raises(RebuildFailedError, match="event 2 was skipped after it had come in; build it again"):
            await synchronizer.rebuild_projection("balances")
        assert await balances.get("a") == Balance("a", "ann", Decimal(0), 0)


async def test_an_event_that_fails_behind_the_verification_refuses_the_rebuild_too(
    synchronizer: ReadModelSynchronizer,
    store: EventStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("CRITICAL")
    monkeypatch.setattr(Breaking, "broken", True)

    async def verify_then_write(*arguments: Any) -> Report:
        report = await verify_sample(*arguments)
        await write(store, deposited("a"))
        return report

    monkeypatch.setattr(takeover, "verify_sample", verify_then_write)
    synchronizer.add(Breaking())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        with pytest.raises(RebuildFailedError, match="1 events failed and are parked"):
            await synchronizer.rebuild_projection("balances")


async def test_a_rebuild_that_is_cancelled_during_the_verification_leaves_what_serves_alone(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")

    class Cancelled(Balances):
        async def verify(self, rebuilt: Any) -> None:
            await synchronizer.control("balances").cancel_rebuild()

    balances = synchronizer.add(Cancelled())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        with pytest.raises(RebuildFailedError):
            await synchronizer.rebuild_projection("balances")
        await synchronizer.wait(await write(store, deposited("a")), PATIENCE)
        assert await balances.get("a") == Balance("a", "ann", Decimal(1), 1)
        assert await engine.read_database.query("SELECT account FROM balances") == [("a",)]
        assert await roles(engine) == [(1, "serving")]


async def test_code_that_does_not_give_the_same_rows_twice_is_refused(
    synchronizer: ReadModelSynchronizer, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")
    calls = 0

    class Moody(Balances):
        @on(Deposited)
        def deposited(self, row: Balance, event: Deposited) -> Balance:
            nonlocal calls
            calls += 1
            return Balance(row.account, f"owner {calls}", row.amount + event.amount, row.changes + 1)

    synchronizer.add(Moody())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a"), deposited("a")), PATIENCE)
        with pytest.raises(RebuildFailedError, match=r"a fresh fold of the log gives"):
            await synchronizer.rebuild_projection("balances")


async def test_a_rebuild_in_which_events_fail_is_refused(
    synchronizer: ReadModelSynchronizer,
    store: EventStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("CRITICAL")
    balances = synchronizer.add(Breaking())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a"), deposited("a")), PATIENCE)
        monkeypatch.setattr(Breaking, "broken", True)
        with pytest.raises(RebuildFailedError, match="1 events failed and are parked"):
            await synchronizer.rebuild_projection("balances")
        assert await balances.get("a") == Balance("a", "ann", Decimal(1), 1)


async def test_a_cancelled_rebuild_leaves_nothing_behind(engine: Engine, store: EventStore) -> None:
    synchronizer = ReadModelSynchronizer(store, engine.read_database, [Balances()], options=never_finished())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        rebuilding = asyncio.create_task(synchronizer.rebuild_projection("balances"))

        async def begun() -> bool:
            return (2, "building") in await roles(engine)

        await until(begun)
        assert (await synchronizer.status())[0].building is not None
        assert await synchronizer.control("balances").cancel_rebuild()
        with pytest.raises(RebuildFailedError, match="it was cancelled"):
            await rebuilding
    assert await roles(engine) == [(1, "serving")]
    async with engine.read_database.transaction() as transaction:
        assert "balances__2" not in await transaction.names()


async def test_a_rebuild_goes_on_in_another_process_and_can_be_joined(engine: Engine, store: EventStore) -> None:
    synchronizer = ReadModelSynchronizer(store, engine.read_database, [Balances()], options=never_finished())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        rebuilding = asyncio.create_task(synchronizer.rebuild_projection("balances"))

        async def begun() -> bool:
            return (2, "building") in await roles(engine)

        await until(begun)
        rebuilding.cancel()
    other = ReadModelSynchronizer(store, engine.read_database, [Balances()], options=QUICK)
    async with running(other):
        assert (await other.rebuild_projection("balances")).reason == ""
    assert await roles(engine) == [(1, "previous"), (2, "serving")]


async def test_what_served_until_just_now_does_not_go_ahead_of_what_serves_in_a_roll_back(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synchronizer.add(Balances())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        await synchronizer.rebuild_projection("balances")
    await write(store, deposited("a"))
    steps: list[dict[str, int]] = []
    catch_up = SegmentRunner.catch_up

    async def noted(self: SegmentRunner, end: int) -> None:
        await catch_up(self, end)
        role_of = dict(await roles(engine))
        rows = await engine.read_database.query(SQL["checkpoints"])
        steps.append({role_of[row[1]]: row[4] for row in rows})

    monkeypatch.setattr(SegmentRunner, "catch_up", noted)
    await synchronizer.control("balances").roll_back()
    assert steps == [
        {"serving": 2, "previous": 1},
        {"serving": 2, "previous": 2},
    ]  # a reader may still ask the one, or the other


async def test_of_two_roll_backs_at_once_both_end_with_the_earlier_one_serving(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore
) -> None:
    balances = synchronizer.add(Balances())
    others = [ReadModelSynchronizer(store, engine.read_database, [Balances()], options=QUICK) for _ in range(2)]
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        await synchronizer.rebuild_projection("balances")
        head = await write(store, deposited("a"))
        await asyncio.gather(*(each.control("balances").roll_back() for each in others))
        assert await roles(engine) == [(1, "serving"), (2, "previous")]
        await synchronizer.wait(await write(store, deposited("a")), PATIENCE)
        row = await balances.get("a")
        assert (row and row.changes, head) == (2, 2)
        [status] = await synchronizer.status()
        assert status.problems == []


async def test_a_roll_back_while_a_worker_takes_over_is_of_what_served_before(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    balances = synchronizer.add(Balances())
    verifying = asyncio.Event()

    async def verify_slowly(*arguments: Any) -> Report:
        report = await verify_sample(*arguments)
        verifying.set()
        await asyncio.sleep(0.05)  # the roll-back comes in between
        return report

    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        await synchronizer.rebuild_projection("balances")
        monkeypatch.setattr(takeover, "verify_sample", verify_slowly)
        rebuilding = asyncio.create_task(synchronizer.rebuild_projection("balances"))
        await asyncio.wait_for(verifying.wait(), PATIENCE)
        other = ReadModelSynchronizer(store, engine.read_database, [Balances()], options=QUICK)
        await other.control("balances").roll_back()
        assert (await rebuilding).reason == ""
        after = await roles(engine)
        assert sorted(role for _, role in after) == ["previous", "serving"], "one serves, one is kept"
        await synchronizer.wait(await write(store, deposited("a")), PATIENCE)
        row = await balances.get("a")
        assert row is not None
        assert row.changes == 1
        [status] = await synchronizer.status()
        assert status.problems == []


async def test_an_answer_that_took_long_is_of_what_serves_then(
    engine: Engine, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = QueryOptions(lookup=GRACE_OF_PREVIOUS)  # whatever time it takes is long
    synchronizer = ReadModelSynchronizer(store, engine.read_database, query_options=options)
    balances = synchronizer.add(Balances())
    load, flipped, asked = engine.read_database.load, asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any) -> Any:
        asked.set()
        await flipped.wait()
        return await load(*arguments)

    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        async with engine.read_database.transaction() as transaction:
            await transaction.run("UPDATE balances__1 SET owner = 'eve'")
        monkeypatch.setattr(engine.read_database, "load", slow)
        answer = asyncio.create_task(balances.get("a"))
        await asked.wait()
        monkeypatch.setattr(engine.read_database, "load", load)
        await synchronizer.rebuild_projection("balances")
        flipped.set()
        assert await answer == Balance("a", "ann", Decimal(0), 0)


async def test_only_one_earlier_generation_is_kept(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore
) -> None:
    synchronizer.add(Balances())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        for _ in range(3):
            await synchronizer.rebuild_projection("balances")
    assert await roles(engine) == [(3, "previous"), (4, "serving")]
    with pytest.raises(UnknownProjectionError):
        await synchronizer.rebuild_projection("nothing")


@dataclass(frozen=True)
class Count:
    account: Annotated[str, Key()]
    number: int = 0


class Louder(Balances):
    """A later version of the code, with the same rows."""

    version = 2

    @on(Opened)
    def opened(self, event: Opened) -> Balance:
        return Balance(event.account, event.owner.upper())


async def test_readers_of_a_version_that_is_being_built_get_the_rows_that_serve_if_they_look_alike(
    engine: Engine, store: EventStore
) -> None:
    async with running(ReadModelSynchronizer(store, engine.read_database, [Balances()], options=QUICK)) as old:
        await old.wait(await write(store, opened("a")), PATIENCE)
    new = ReadModelSynchronizer(store, engine.read_database, options=never_finished())
    balances = new.add(Louder())
    async with running(new):
        await new.wait(1, PATIENCE)
        assert await balances.get("a") == Balance("a", "ann")


async def test_readers_of_a_version_that_is_being_built_are_told_so_if_its_rows_look_otherwise(
    engine: Engine, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counts(Projection[Count]):
        name = "balances"
        version = 2

        @on(Opened)
        def opened(self, event: Opened) -> Count:
            return Count(event.account)

    async with running(ReadModelSynchronizer(store, engine.read_database, [Balances()], options=QUICK)) as old:
        await old.wait(await write(store, opened("a")), PATIENCE)
    new = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    counts = new.add(Counts())
    await new.prepare()
    with pytest.raises(ReadModelBuildingError, match="version 2 of the read model balances is being built"):
        await counts.get("a")
    async with running(new):

        async def serves() -> bool:
            try:
                return await counts.get("a") == Count("a")
            except ReadModelBuildingError:
                return False

        await until(serves)
