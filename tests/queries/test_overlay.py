"""Rows that are folded on when they are read equal what the projection shows once it has caught up."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.accounts import Balance, Balances, Deposited, Withdrawn
from tests.synchronizing import PATIENCE, QUICK, deposited, opened, quick, running, until, write

from twofold import EventStore, ReadModelSynchronizer, on
from twofold.engines.engine import Engine, connect
from twofold.errors import StaleReadError
from twofold.messages.read_policy import ReadPolicy, WhenLate
from twofold.messages.session import WriteToken
from twofold.options import QueryOptions
from twofold.ports.checkpoints import SQL
from twofold.ports.read_database import Found
from twofold.queries.consistency import Asking

ACCOUNTS = ("a", "b", "c")


def overlaying() -> AbstractContextManager[Asking]:
    """Return a context in which all read models are late, and rows are folded on."""
    return Asking(WriteToken(1 << 60, None), policy=ReadPolicy(0.0, WhenLate.OVERLAY))


class Fickle(Balances):
    """Fails on deposits of 13, deletes rows on withdrawals of everything, and makes them again."""

    name = "fickle"

    @on(Deposited)
    def deposited(self, row: Balance | None, event: Deposited) -> Balance:
        if event.amount == 13:
            raise ArithmeticError("unlucky")
        row = row or Balance(event.account, "nobody")
        return Balance(row.account, row.owner, row.amount + event.amount, row.changes + 1)

    @on(Withdrawn)
    def withdrawn(self, row: Balance | None, event: Withdrawn) -> Balance | None:
        return None


async def test_a_row_is_as_fresh_as_the_log_while_its_projection_stands_still(
    engine: Engine, store: EventStore
) -> None:
    synchronizer = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    balances = synchronizer.add(Balances())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a"), deposited("a")), PATIENCE)
        await synchronizer.control("balances").pause()
        await write(store, deposited("a", 4), opened("b"))
        with overlaying() as within:
            assert await balances.get("a") == Balance("a", "ann", Decimal(5), 2)
            assert await balances.get("b") == Balance("b", "ann")
            assert await balances.get("c") is None
            assert not within.stale
            assert (await balances.page()).total == 1
            assert within.stale
        assert await balances.get("a") == Balance("a", "ann", Decimal(1), 1)


async def test_it_gives_up_where_too_much_is_missing(engine: Engine, store: EventStore) -> None:
    query_options = QueryOptions(overlay_events=5)
    synchronizer = ReadModelSynchronizer(store, engine.read_database, options=QUICK, query_options=query_options)
    balances = synchronizer.add(Balances())
    await synchronizer.prepare()
    await write(store, opened("a"), *(deposited("a") for _ in range(5)))
    with overlaying(), pytest.raises(StaleReadError, match="balances at 0"):
        await balances.get("a")


async def test_a_row_and_its_checkpoint_are_of_one_moment_while_both_move(engine: Engine, store: EventStore) -> None:
    synchronizer = ReadModelSynchronizer(store, engine.read_database, batch_size=3, options=QUICK)
    balances = synchronizer.add(Balances())
    await write(store, opened("a"))
    done = asyncio.Event()

    async def keep_writing() -> None:
        while not done.is_set():
            await write(store, deposited("a"))

    async with running(synchronizer):
        await synchronizer.wait(1, PATIENCE)
        writing = asyncio.create_task(keep_writing())
        for _ in range(50):
            before = await store.head()
            try:
                with overlaying():
                    row = await balances.get("a")
            except StaleReadError:
                continue
            assert row is not None
            assert before - 1 <= row.changes <= await store.head() - 1
            assert row.amount == row.changes
        done.set()
        await writing


async def test_a_row_and_what_is_parked_of_it_are_of_one_moment(
    engine: Engine, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event is let in right behind the moment at which the row is read, and the next one is not in yet."""
    synchronizer = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    rows = synchronizer.add(Fickle())
    await write(store, opened("a"), deposited("a", 13))
    await synchronizer.run_once(PATIENCE)
    await write(store, deposited("a", 4))
    read, let_in = engine.read_database.read, False

    async def read_then_let_in(*arguments: Any) -> Found:
        nonlocal let_in
        found = await read(*arguments)
        if not let_in:
            let_in = True
            async with engine.read_database.transaction() as transaction:
                await transaction.run("UPDATE fickle__1 SET amount = '13', changes = 1 WHERE account = 'a'")
                released = {"name": "fickle", "generation": 1, "position": 2, "key": '["a"]'}
                await transaction.run(SQL["release"], **released)
        return found

    monkeypatch.setattr(engine.read_database, "read", read_then_let_in)
    monkeypatch.setattr(engine.read_database, "load", None)  # nothing is read apart from its position
    with overlaying() as within:
        assert await rows.get("a") in (Balance("a", "ann"), Balance("a", "ann", Decimal(17), 2))
        assert await rows.get("a") == Balance("a", "ann", Decimal(17), 2)
    assert within.stale, "the first answer lacks what was parked"


def steps() -> st.SearchStrategy[list[tuple[str, int]]]:
    return st.lists(st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from([1, 2, 13, -1])), max_size=12)


def event(account: str, amount: int) -> Any:
    return Withdrawn(account=account, amount=Decimal(1)) if amount < 0 else deposited(account, amount)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(before=steps(), after=steps(), skipped=st.integers(1, 12))
def test_it_equals_what_the_projection_shows_once_it_has_caught_up(
    before: list[tuple[str, int]], after: list[tuple[str, int]], skipped: int
) -> None:
    asyncio.run(_compare(before, after, skipped))


async def _compare(before: list[tuple[str, int]], after: list[tuple[str, int]], skipped: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        engine = connect(f"sqlite:///{Path(folder) / 'overlay.db'}")
        await engine.log.open()
        try:
            store = EventStore(engine.log)
            synchronizer = ReadModelSynchronizer(store, engine.read_database, options=quick(lease=0.5))
            rows = synchronizer.add(Fickle())
            if before:
                await write(store, *(event(*each) for each in before))
            await synchronizer.run_once(PATIENCE)
            if after:
                await write(store, *(event(*each) for each in after))
            if skipped <= len(after):
                await synchronizer.control("fickle").skip(len(before) + skipped, reason="at random")
            with overlaying():
                overlaid = {account: await rows.get(account) for account in ACCOUNTS}
            await synchronizer.run_once(PATIENCE)
            assert overlaid == {account: await rows.get(account) for account in ACCOUNTS}
        finally:
            await engine.log.close()


async def test_a_row_of_a_divided_read_model_is_folded_on_from_its_own_segment(
    engine: Engine, store: EventStore
) -> None:
    synchronizer = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    balances = synchronizer.add(Balances())
    await synchronizer.prepare()
    await synchronizer.control("balances").scale(4)
    accounts = [f"a{number}" for number in range(12)]
    async with running(synchronizer):
        await synchronizer.wait(await write(store, *map(opened, accounts)), PATIENCE)

        async def divided() -> bool:
            return len((await synchronizer.status())[0].segments) == 4

        await until(divided)
        await synchronizer.control("balances").pause()
        await write(store, *map(deposited, accounts))
        with overlaying():
            assert [(await balances.get(account)) for account in accounts] == [
                Balance(account, "ann", Decimal(1), 1) for account in accounts
            ]
