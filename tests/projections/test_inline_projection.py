"""Read models that are written in the transactions of the appends; kills, see `tests/campaigns/read_models`."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from tests.accounts import Balance, Balances, Deposit, Deposited, Open, Opened, Withdrawn, wire
from tests.kinds import checkpoints, fresh, rows
from tests.synchronizing import PATIENCE, QUICK, deposited, engine_at, opened, quick, running, until, write

from twofold import (
    Application,
    EventStore,
    GroupedProjection,
    Projection,
    ProjectionState,
    ReadModel,
    ReadModelSynchronizer,
    SqlProjection,
    on,
    open_event_store,
)
from twofold.engines.engine import Engine, connect, scratch_database
from twofold.errors import InvalidProjectionError, ProjectionFailedError
from twofold.options import FoldOptions
from twofold.ports.held_back import HeldBack

MISSING = FoldOptions().missing


@pytest_asyncio.fixture
async def elsewhere(url: str, engine: Engine) -> AsyncIterator[EventStore]:
    """Return the same log as another process has it, which knows of no inline projection."""
    async with engine_at(url) as (other, _):
        yield EventStore(other.log)


class Fussy(Balances):
    """Refuses deposits of 13, and makes a row that cannot be stored of one of 14, until it is mended."""

    mended = False

    @on(Deposited)
    def deposited(self, row: Balance, event: Deposited) -> Balance:
        if event.amount == 13 and not self.mended:
            raise ArithmeticError("unlucky")
        if event.amount == 14 and not self.mended:
            return Balance(row.account, None)  # type: ignore[arg-type]
        return super().deposited(row, event)

    @on(Withdrawn)
    def withdrawn(self, row: Balance, event: Withdrawn) -> None:
        """Close the account."""


async def inline(
    engine: Engine, store: EventStore, projection: Projection[Any] | None = None, *, batch_size: int = 50
) -> tuple[ReadModelSynchronizer, ReadModel[Any]]:
    """Return a read model that is ready, and that nobody runs yet: whatever it shows, the appends have written."""
    synchronizer = ReadModelSynchronizer(store, engine.read_database, batch_size=batch_size, options=QUICK)
    model = synchronizer.add(projection or Balances(), kind="inline")
    await synchronizer.prepare()
    return synchronizer, model


async def test_the_rows_are_there_when_the_append_returns(engine: Engine, store: EventStore) -> None:
    _, balances = await inline(engine, store)
    await write(store, opened("a"), deposited("a", 2))
    assert await balances.get("a") == Balance("a", "ann", Decimal(2), 1)
    position = await write(store, deposited("a", 3))
    assert await balances.get("a") == Balance("a", "ann", Decimal(5), 2)
    assert {row.position for row in await checkpoints(engine)} == {position}


async def test_the_rows_are_there_when_a_command_returns_and_nobody_has_to_wait(url: str) -> None:
    app = Application(url, synchronize=False)
    balances = app.projections.add(Balances(), kind="inline")
    wire(app)
    async with app:
        await app.commands.execute(Open(account="a"))
        receipt = await app.commands.execute(Deposit(account="a", amount=Decimal(7)))
        assert await balances.get("a") == Balance("a", "ann", Decimal(7), 1)
        await app.projections.wait(receipt.position, 0)
        [status] = await app.projections.status()
    assert (status.kind, status.state, status.position, status.problems) == ("inline", ProjectionState.LIVE, 2, [])


@pytest.mark.parametrize("amount", [13, 14])
async def test_a_failure_rejects_its_own_append_and_no_other_of_the_group(
    engine: Engine, store: EventStore, amount: int
) -> None:
    _, balances = await inline(engine, store, Fussy())
    await write(store, *(opened(f"a{number}") for number in range(20)))

    async def deposit(number: int) -> BaseException | None:
        try:
            unlucky = amount if number % 7 == 3 else 1
            await store.append([deposited(f"a{number}"), deposited(f"a{number}", unlucky)])
        except ProjectionFailedError as error:
            return error.__cause__
        return None

    causes = await asyncio.gather(*map(deposit, range(20)))
    assert [number for number, cause in enumerate(causes) if cause] == [3, 10, 17]
    assert await store.head() == 20 + 2 * 17, "the position of a rejected event is given to another one"
    assert await rows(balances) == await fresh(store, Fussy())
    assert {account for account, row in (await rows(balances)).items() if not row.changes} == {"a3", "a10", "a17"}


async def test_a_rejected_append_can_be_made_again_and_takes_effect_once(engine: Engine, store: EventStore) -> None:
    fussy, event_id = Fussy(), uuid4()
    _, balances = await inline(engine, store, fussy)
    await write(store, opened("a"))
    for _ in range(2):
        with pytest.raises(ProjectionFailedError, match=r"balances failed on event 2 \(Deposited\): ArithmeticError"):
            await store.append([deposited("a", 13)], event_ids=[event_id])
    fussy.mended = True
    assert [(await store.append([deposited("a", 13)], event_ids=[event_id])).position for _ in range(3)] == [2, 2, 2]
    assert await balances.get("a") == Balance("a", "ann", Decimal(13), 1)


async def test_a_command_whose_events_are_refused_takes_no_effect_and_may_come_again(url: str) -> None:
    fussy = Fussy()
    app = Application(url)
    balances = app.projections.add(fussy, kind="inline")
    wire(app)
    async with app:
        await app.commands.execute(Open(account="a"))
        command = Deposit(account="a", amount=Decimal(13))
        with pytest.raises(ProjectionFailedError):
            await app.commands.execute(command)
        fussy.mended = True
        for _ in range(2):
            assert (await app.commands.execute(command)).position == 2
        assert await balances.get("a") == Balance("a", "ann", Decimal(13), 1)


async def test_rows_are_deleted_and_long_appends_are_folded_whole(engine: Engine, store: EventStore) -> None:
    _, balances = await inline(engine, store, Fussy())
    await write(store, opened("a"), opened("b"), *(deposited("a") for _ in range(2 * MISSING)))
    assert await balances.get("a") == Balance("a", "ann", Decimal(2 * MISSING), 2 * MISSING)
    await write(store, Withdrawn(account="a", amount=Decimal(1)))
    assert set(await rows(balances)) == {"b"}


async def test_an_append_brings_in_what_others_appended_who_do_not_know_it_as_inline(
    engine: Engine, store: EventStore, elsewhere: EventStore
) -> None:
    _, balances = await inline(engine, store)
    await write(elsewhere, opened("a"), deposited("a", 4))
    assert await balances.get("a") is None
    await write(store, deposited("a", 1))
    assert await balances.get("a") == Balance("a", "ann", Decimal(5), 2)
    await write(elsewhere, opened("b"))
    await write(store, opened("c"))
    assert await rows(balances) == await fresh(store)


async def test_what_others_appended_comes_in_by_itself_if_somebody_runs_it(
    engine: Engine, store: EventStore, elsewhere: EventStore
) -> None:
    synchronizer, balances = await inline(engine, store)
    async with running(synchronizer):
        await synchronizer.wait(await write(elsewhere, opened("a")), PATIENCE)
        assert await rows(balances) == await fresh(store)


async def test_more_than_an_append_can_bring_in_is_left_to_the_synchronizer(
    engine: Engine, store: EventStore, elsewhere: EventStore
) -> None:
    synchronizer, balances = await inline(engine, store, batch_size=MISSING)  # before each, the appends have their time
    await write(elsewhere, opened("a"), *(deposited("a") for _ in range(MISSING)))
    await write(store, deposited("a"))
    assert {row.position for row in await checkpoints(engine)} == {0}
    async with running(synchronizer):
        await synchronizer.wait(await store.head(), PATIENCE)
    await write(store, deposited("a"))
    assert await rows(balances) == await fresh(store)


async def test_preparing_it_brings_it_up_to_the_log_however_long_that_is(engine: Engine, store: EventStore) -> None:
    await write(store, opened("a"), *(deposited("a") for _ in range(2 * MISSING + 7)))
    _, balances = await inline(engine, store)
    assert {row.position for row in await checkpoints(engine)} == {2 * MISSING + 8}
    assert await rows(balances) == await fresh(store)


async def test_no_append_is_rejected_for_an_event_of_somebody_else(
    engine: Engine, store: EventStore, elsewhere: EventStore
) -> None:
    fussy = Fussy()
    synchronizer, balances = await inline(engine, store, fussy)
    await write(elsewhere, opened("a"), opened("b"), deposited("a", 13))
    await write(store, deposited("a", 1), deposited("b", 2))
    async with running(synchronizer):
        await synchronizer.wait(5, PATIENCE)
        assert [each.position for each in await synchronizer.control("balances").parked()] == [3, 4]
        await write(store, deposited("b", 3))
        assert await balances.get("b") == Balance("b", "ann", Decimal(5), 2), "the rows go on with the appends"
        await write(store, deposited("a", 5))
        assert [each.position for each in await synchronizer.control("balances").parked()] == [3, 4, 7], (
            "it waits behind them"
        )
        assert await balances.get("a") == Balance("a", "ann")
        fussy.mended = True
        assert await synchronizer.control("balances").retry() == 3

        async def is_in() -> bool:
            await write(store, deposited("b"))
            return not await synchronizer.control("balances").parked()

        await until(is_in)
        await synchronizer.wait(await store.head(), PATIENCE)
    assert await rows(balances) == await fresh(store, fussy)


async def test_a_paused_one_lets_appends_through_and_catches_up_later(engine: Engine, store: EventStore) -> None:
    synchronizer, balances = await inline(engine, store, Fussy())
    await write(store, opened("a"))
    await synchronizer.control("balances").pause()
    await write(store, deposited("a", 2))
    assert await balances.get("a") == Balance("a", "ann")
    await synchronizer.control("balances").resume()
    await write(store, deposited("a", 3))
    assert await balances.get("a") == Balance("a", "ann", Decimal(5), 2)


async def test_appends_leave_one_to_its_worker_that_holds_tenants_back(engine: Engine, store: EventStore) -> None:
    synchronizer, balances = await inline(engine, store)
    await write(store, opened("a"))
    [before] = await checkpoints(engine)
    held = HeldBack(before.mark, {"acme": before.mark})
    async with engine.read_database.transaction() as transaction:
        await transaction.run("UPDATE twofold_checkpoints SET held_back = :text", text=held.text)
    await write(store, deposited("a", 2))
    [after] = await checkpoints(engine)
    assert (after.mark, after.held) == (before.mark, held)
    assert await balances.get("a") == Balance("a", "ann")

    async def is_in() -> bool:
        return await balances.get("a") == Balance("a", "ann", Decimal(2), 1)

    async with running(synchronizer):
        await until(is_in)


async def test_events_that_were_skipped_are_not_brought_in(
    engine: Engine, store: EventStore, elsewhere: EventStore
) -> None:
    synchronizer, balances = await inline(engine, store, Fussy())
    await write(elsewhere, opened("a"), deposited("a", 13))
    await synchronizer.control("balances").skip(2, reason="unlucky")
    await write(store, deposited("a", 1))
    assert await balances.get("a") == Balance("a", "ann", Decimal(1), 1)


async def test_it_may_have_several_segments_which_are_divided_and_joined_while_it_is_written(
    engine: Engine, store: EventStore
) -> None:
    synchronizer = ReadModelSynchronizer(store, engine.read_database, options=quick(lease=1.0))
    balances = synchronizer.add(Balances(), kind="inline")
    await synchronizer.prepare()
    accounts = [f"a{number}" for number in range(8)]
    await write(store, *map(opened, accounts))

    async def deposit_until(segments: int) -> None:
        await synchronizer.control("balances").scale(segments)

        async def divided() -> bool:
            await asyncio.gather(*(write(store, deposited(account)) for account in accounts))
            assert len({row.changes for row in (await rows(balances)).values()}) == 1
            return len(await checkpoints(engine)) == segments

        await until(divided)

    async with running(synchronizer):
        await deposit_until(4)
        await deposit_until(1)
    assert {row.position for row in await checkpoints(engine)} == {await store.head()}
    assert await rows(balances) == await fresh(store)


async def test_appends_that_join_a_transaction_are_folded_in_it(engine: Engine, store: EventStore) -> None:
    _, balances = await inline(engine, store, Fussy())
    async with store.transaction() as tx:
        tx.append([opened("a")])
        tx.append([deposited("a", 2)])
    assert await balances.get("a") == Balance("a", "ann", Decimal(2), 1)
    with pytest.raises(ProjectionFailedError):
        async with store.transaction() as tx:
            tx.append([deposited("a", 3)])
            tx.append([deposited("a", 13)])
    with pytest.raises(RuntimeError, match="changed my mind"):
        async with store.transaction() as tx:
            tx.append([deposited("a", 3)])
            raise RuntimeError("changed my mind")
    assert await store.head() == 2
    assert await rows(balances) == await fresh(store, Fussy())
    await write(store, deposited("a", 1))
    assert await balances.get("a") == Balance("a", "ann", Decimal(3), 2)


async def test_appends_join_a_connection_on_which_a_statement_runs_any_number_of_times(
    engine: Engine, store: EventStore, url: str
) -> None:
    """SQLite replaces no function while one runs, and a cursor may be read to its end much later, or never."""
    if not url.startswith("sqlite"):
        pytest.skip("only a connection of SQLite runs several statements at a time")
    _, balances = await inline(engine, store)
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
    for number in range(3):
        connection.execute("BEGIN IMMEDIATE")
        running = connection.execute("SELECT 1 UNION SELECT 2")
        assert next(running) == (1,)
        async with store.transaction(connection) as tx:
            tx.append([deposited("a") if number else opened("a")])
        connection.execute("COMMIT")
        assert next(running) == (2,)
    connection.close()
    assert await balances.get("a") == Balance("a", "ann", Decimal(2), 2)


async def test_rows_are_shown_by_whichever_generation_serves_when_an_append_returns(
    engine: Engine, store: EventStore
) -> None:
    synchronizer, balances = await inline(engine, store)
    accounts = [f"a{number}" for number in range(8)]
    await write(store, *map(opened, accounts))
    is_over = asyncio.Event()

    async def deposit(account: str) -> None:
        count = 0
        while not is_over.is_set():
            await write(store, deposited(account))
            count += 1
            assert await balances.get(account) == Balance(account, "ann", Decimal(count), count)

    async with running(synchronizer), asyncio.TaskGroup() as group:
        for account in accounts:
            group.create_task(deposit(account))
        try:
            report = await synchronizer.rebuild_projection("balances", expect_same=True)
            assert (report.missing, report.added) == (0, 0)
            await synchronizer.control("balances").roll_back()
            await synchronizer.rebuild_projection("balances")
        finally:
            is_over.set()
    assert await rows(balances) == await fresh(store)


class Shouting(Balances):
    version = 2

    @on(Opened)
    def opened(self, event: Opened) -> Balance:
        return Balance(event.account, event.owner.upper())


async def test_a_new_version_of_the_code_is_written_by_appends_once_it_serves(
    engine: Engine, store: EventStore
) -> None:
    await inline(engine, store)
    await write(store, opened("a"))
    newer = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    shouting = newer.add(Shouting(), kind="inline")
    await newer.prepare()
    await write(store, opened("b"))
    assert await shouting.get("a") == Balance("a", "ann"), "the earlier version serves until the new one is complete"
    async with running(newer):

        async def serves() -> bool:
            return await shouting.get("a") == Balance("a", "ANN")

        await until(serves)
    await write(store, opened("c"))
    assert await rows(shouting) == await fresh(store, Shouting())


async def test_it_may_change_its_kind_to_and_fro(url: str) -> None:
    for number in range(6):
        async with engine_at(url) as (engine, _):
            store = EventStore(engine.log)
            synchronizer = ReadModelSynchronizer(store, engine.read_database, scratch=scratch_database, options=QUICK)
            kind = ("asynchronous", "inline", "on_demand")[number % 3]
            balances = synchronizer.add(Balances(), kind=kind)  # type: ignore[call-overload]
            async with running(synchronizer):
                await synchronizer.run_once(PATIENCE) if kind == "asynchronous" else await synchronizer.prepare()
                position = await write(store, opened(f"a{number}"), deposited("a0", number))
                await synchronizer.wait(position, PATIENCE)
                assert await rows(balances) == await fresh(store), kind
            await synchronizer.close()


async def test_what_cannot_be_inline_is_refused_when_it_is_added(
    engine: Engine, store: EventStore, tmp_path: Any
) -> None:
    class Sums(SqlProjection):
        name = "sums"

    class Groups(GroupedProjection[Balance]):
        name = "groups"

        @on(Opened)
        def opened(self, event: Opened) -> list[Balance]:
            return [Balance(event.account, event.owner)]

    class Later(Balances):
        name = "later"
        follows = ("balances",)

    apart = ReadModelSynchronizer(store, connect(f"sqlite:///{tmp_path}/apart.db").read_database, options=QUICK)
    with pytest.raises(InvalidProjectionError, match=r"balances cannot be inline, .* in another database than the log"):
        apart.add(Balances(), kind="inline")
    memory = ReadModelSynchronizer(open_event_store("memory://"), engine.read_database, options=QUICK)
    with pytest.raises(InvalidProjectionError, match="in another database than the log"):
        memory.add(Balances(), kind="inline")
    synchronizer = ReadModelSynchronizer(store, engine.read_database, [Balances()], options=QUICK)
    with pytest.raises(InvalidProjectionError, match="sums can be asynchronous only"):
        synchronizer.add(Sums(), kind="inline")  # type: ignore[call-overload]
    with pytest.raises(InvalidProjectionError, match=r"groups cannot be inline: it keeps groups of rows"):
        synchronizer.add(Groups(), kind="inline")
    with pytest.raises(InvalidProjectionError, match=r"later \(inline\) cannot follow balances \(asynchronous\)"):
        synchronizer.add(Later(), kind="inline")
