"""Stored snapshots: a new process does not fold a long stream again, and believes nothing that is not so."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.accounts import ACCOUNT, Account, Deposit, Deposited, Opened, Withdrawn, wire
from tests.log.test_streams import Counting
from tests.restorable import SqliteFile
from tests.synchronizing import deposited, engine_at, opened

from twofold import ANY, Aggregate, Application, Decider, EventStore, LogOptions, Options, Repository, on
from twofold.commands.repository import DeciderHandler
from twofold.engines.memory import MemoryEventLog
from twofold.errors import StorageError
from twofold.ports.snapshots import FoundSnapshot, Snapshot, SnapshotLog, with_checksum

MUCH = LogOptions(short_stream=50, short_tail=4, first_chunk=20, snapshot_every=10)
STREAM = "Account-a"


async def grow(store: EventStore, count: int, amount: int = 1) -> None:
    """Let the stream have some more events."""
    events = [deposited("a", amount) for _ in range(count)]
    await store.append_events(STREAM, "Account", events, expected_version=ANY)


@asynccontextmanager
async def process(store: EventStore, options: LogOptions = MUCH) -> AsyncIterator[tuple[EventStore, Counting]]:
    """Stand for another process, which has kept nothing, and ends in an orderly way."""
    log = Counting(store.log)
    fresh = EventStore(log, options=options)
    yield fresh, log
    await fresh.snapshots.end()


async def loaded(store: EventStore, kind: type[Aggregate] = Account) -> tuple[Any, int, Any]:
    """Load the aggregate in a process of its own; return it, the rows that were read, and what became of snapshots."""
    async with process(store) as (fresh, log):
        thing = await Repository(fresh, kind).load("a")
    return thing, log.rows, fresh.snapshots.status()


async def stored(store: EventStore) -> Snapshot:
    """Return the one snapshot of the log."""
    log: SnapshotLog = store.log  # type: ignore[assignment]
    [snapshot] = await log.read_snapshots(limit=10)
    return snapshot


async def folded(store: EventStore) -> Account:
    """Return the aggregate as all of its events make it."""
    return Account.from_history("a", [each.event async for each in store.read_stream(STREAM)])


async def begin(store: EventStore, count: int = 300) -> None:
    """Let the stream be long, and its snapshot be stored."""
    await store.append_events(STREAM, "Account", [opened("a")], expected_version=ANY)
    await grow(store, count - 1)
    _, rows, status = await loaded(store)
    assert rows >= count
    assert status.saved == 1
    assert (await stored(store)).version == count


async def test_a_new_process_reads_what_stands_behind_the_snapshot_only(store: EventStore) -> None:
    await begin(store, 300)
    for version in (300, 301, 305):
        if version > 300:
            await grow(store, 1 if version == 301 else 4)
        account, rows, status = await loaded(store)
        assert vars(account) == vars(await folded(store))
        assert account.version == version
        assert rows == 1 + version - 300, "the last event that the snapshot contains, and those behind it"
        assert status.used == 1


async def test_a_snapshot_that_lies_far_behind_is_replaced_by_a_newer_one(store: EventStore) -> None:
    await begin(store, 300)
    await grow(store, MUCH.snapshot_every + 1)
    assert (await loaded(store))[2].saved == 1
    assert (await stored(store)).version == 311
    await grow(store, MUCH.snapshot_every)
    assert (await loaded(store))[2].saved == 0


async def test_a_process_that_goes_on_working_stores_newer_snapshots(store: EventStore) -> None:
    await begin(store, 300)
    async with process(store) as (fresh, log):
        accounts = Repository(fresh, Account)
        await accounts.load("a")
        for version in range(301, 400):
            log.rows = 0
            await grow(store, 1)
            assert (await accounts.load("a")).version == version
            assert log.rows <= 2 + MUCH.short_tail
    assert 400 - 2 * MUCH.snapshot_every < (await stored(store)).version < 400
    assert fresh.snapshots.status().used == 1


async def test_short_streams_have_no_snapshots_and_their_loads_do_not_look_for_one(store: EventStore) -> None:
    await store.append_events(STREAM, "Account", [opened("a")], expected_version=ANY)
    for _ in range(5):
        async with process(store) as (fresh, log):
            await Repository(fresh, Account).load("a")
            assert log.looks == 0
        await grow(store, 2)
    assert await store.log.read_snapshots(limit=10) == []  # type: ignore[attr-defined]


async def test_a_stream_that_is_not_long_enough_for_a_snapshot_is_looked_up_once(
    store: EventStore,
) -> None:
    await store.append_events(STREAM, "Account", [opened("a")], expected_version=ANY)
    await grow(store, MUCH.first_chunk + 9)
    async with process(store) as (fresh, log):
        accounts = Repository(fresh, Account)
        for _ in range(3):
            assert (await accounts.load("a")).version == MUCH.first_chunk + 10
        assert log.looks == 1
        await grow(store, MUCH.short_stream)
        for _ in range(2):
            version = (await accounts.load("a")).version
        assert version == MUCH.first_chunk + 10 + MUCH.short_stream
    assert (await loaded(store))[2].used + (await loaded(store))[2].used >= 1


async def test_with_snapshots_off_none_is_stored_or_looked_for(store: EventStore) -> None:
    await store.append_events(STREAM, "Account", [opened("a")], expected_version=ANY)
    await grow(store, 299)
    for _ in range(2):
        async with process(store, replace(MUCH, snapshots="off")) as (fresh, log):
            assert (await Repository(fresh, Account).load("a")).version == 300
        assert log.rows >= 300
        assert log.looks == 0
    assert await store.log.read_snapshots(limit=10) == []  # type: ignore[attr-defined]


async def test_a_load_does_not_wait_for_a_snapshot_to_be_stored(store: EventStore) -> None:
    await store.append_events(STREAM, "Account", [opened("a")], expected_version=ANY)
    await grow(store, 299)
    log = Counting(store.log)
    log.may_save.clear()
    accounts = Repository(fresh := EventStore(log, options=MUCH), Account)
    account = await accounts.load("a")
    account.deposit(Decimal(1))
    await accounts.save(account)
    assert (await accounts.load("a")).version == 301
    assert fresh.snapshots.status().saved == 0
    log.may_save.set()
    await fresh.snapshots.end()
    assert (await stored(store)).version == 300, "what a handler has done to its aggregate is not in it"


async def test_what_a_handler_does_to_a_loaded_aggregate_does_not_reach_a_snapshot(store: EventStore) -> None:
    await begin(store, 300)
    for n in range(3):
        await grow(store, MUCH.snapshot_every + 1)
        async with process(store) as (fresh, _):
            accounts = Repository(fresh, Account)
            for _ in range(2):
                account = await accounts.load("a")
                assert account.balance == (n + 1) * 11 + 299
                account.balance = Decimal(10**6)
                account.owner += "!"
    assert vars((await loaded(store))[0]) == vars(await folded(store))


COLUMNS = [name for name in Snapshot._fields if name not in ("fold", "subject", "saved_at")]


@pytest.mark.parametrize("column", [*COLUMNS, "saved_at"])
async def test_a_snapshot_with_a_flipped_bit_is_never_believed_and_is_replaced(store: EventStore, column: str) -> None:
    await begin(store, 300)
    snapshot = await stored(store)
    value = getattr(snapshot, column)
    damaged: Any = bytes([value[0] ^ 1]) + value[1:] if isinstance(value, bytes) else value ^ 1
    if column == "state":
        damaged = value.replace(b"299", b"999")
        assert damaged != value
    log: SnapshotLog = store.log  # type: ignore[assignment]
    assert await log.save_snapshot(snapshot._replace(**{column: damaged}), instead_of=snapshot.checksum)
    account, rows, status = await loaded(store)
    assert account.balance == 299
    assert rows >= 300
    assert (status.refused_damage, status.used, status.saved) == (1, 0, 1)
    account, rows, status = await loaded(store)
    assert account.balance == 299
    assert (status.refused_damage, status.used) == (0, 1)


async def test_a_file_in_which_the_state_is_no_text_costs_another_fold_only(tmp_path: Path) -> None:
    async with engine_at(f"sqlite:///{tmp_path}/log.db") as (_, store):
        await begin(store, 300)
        with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as file:
            file.execute("UPDATE twofold_snapshots SET state = CAST(x'ff00fe' AS TEXT)")
        account, _, status = await loaded(store)
        assert account.balance == 299
        assert (status.refused_damage, status.saved) == (1, 1)


class Unreadable(MemoryEventLog):
    async def find_snapshot(self, fold: str, subject: str) -> FoundSnapshot:
        raise StorageError("the page is damaged")


class FullDisk(MemoryEventLog):
    async def save_snapshot(self, snapshot: Snapshot, *, instead_of: int | None = None) -> bool:
        raise StorageError("the disk is full")


@pytest.mark.parametrize(("kind", "what"), [(Unreadable, "refused_damage"), (FullDisk, "failed")])
async def test_a_snapshot_that_cannot_be_read_or_saved_harms_no_load(kind: type[MemoryEventLog], what: str) -> None:
    store = EventStore(kind())
    await store.append_events(STREAM, "Account", [opened("a")], expected_version=ANY)
    await grow(store, 299)
    account, _, status = await loaded(store)
    assert account.balance == 299
    assert getattr(status, what) == 1


class Doubled(Account):
    """The same type of streams, folded by other code."""

    stream_type = "Account"

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.balance += 2 * event.amount


async def test_a_snapshot_of_other_code_is_ignored_counted_and_replaced(store: EventStore) -> None:
    await begin(store, 300)
    for kind, balance in ((Doubled, 598), (Account, 299)):
        account, rows, status = await loaded(store, kind)
        assert account.balance == balance
        assert rows >= 300
        assert (status.refused_code, status.used, status.saved) == (1, 0, 1)
        assert (await loaded(store, kind))[2].used == 1


async def test_a_snapshot_of_a_history_that_is_lost_is_refused(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path)
    async with engine_at(file.url) as (_, store), engine_at(file.url) as (_, other):
        log: SnapshotLog = other.log  # type: ignore[assignment]
        await store.append_events(STREAM, "Account", [opened("a")], expected_version=ANY)
        await grow(store, 299)
        await asyncio.to_thread(file.save)
        await grow(store, 100)
        assert (await loaded(store))[0].balance == 399
        lost = await stored(store)
        await asyncio.to_thread(file.put_back)
        assert await log.save_snapshot(lost), "a process that still had it stores it"
        account, _, status = await loaded(other)
        assert (account.balance, status.refused_history, status.saved) == (299, 1, 1), "the stream ends before it"
        await grow(other, 100, amount=2)
        await log.save_snapshot(lost, instead_of=(await stored(other)).checksum)
        account, _, status = await loaded(other)
        assert (account.balance, status.refused_history, status.saved) == (499, 1, 1), "another event stands there"


async def test_a_repeat_that_comes_to_the_same_place_in_another_history_is_told_from_the_first(tmp_path: Path) -> None:
    """Ids of events follow from those of commands: a repeat after a restore brings the same ones, behind others."""
    file = SqliteFile(tmp_path)
    async with engine_at(file.url) as (_, store), engine_at(file.url) as (_, other):
        log: SnapshotLog = other.log  # type: ignore[assignment]
        await store.append_events(STREAM, "Account", [opened("a")], expected_version=ANY)
        await grow(store, 298)
        await asyncio.to_thread(file.save)

        event_id = uuid4()

        async def repeat(on: EventStore) -> None:
            await on.append_events(STREAM, "Account", [deposited("a")], expected_version=ANY, event_ids=[event_id])

        await grow(store, 1)
        await repeat(store)
        assert (await loaded(store))[0].balance == 300
        lost = await stored(store)
        await asyncio.to_thread(file.put_back)
        await grow(other, 1, amount=50)
        await repeat(other)
        [last] = [each async for each in other.read_stream(STREAM, after=300)]
        assert (last.event_id.bytes, last.version, last.position) == (lost.event_id, lost.version, lost.position)
        assert await log.save_snapshot(lost)
        account, _, status = await loaded(other)
        assert account.balance == 349
        assert status.refused_history == 1


class Tree(Aggregate):
    """Has a state that is known by identity in two places."""

    stream_type = "Account"

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.amounts: list[Decimal] = []
        self.latest: list[Decimal] = self.amounts

    @on(Opened)
    def _opened(self, event: Opened) -> None: ...

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.latest.append(event.amount)


class Undeclared(Tree):
    """Does not say what is in its list."""

    stream_type = "Account"

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.amounts = self.latest = []
        self.seen = []  # type: ignore[var-annotated]

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.seen.append(event.amount)


@pytest.mark.parametrize(
    ("kind", "text"),
    [(Tree, "stands in two places"), (Undeclared, "Undeclared.seen is not declared; write `self.seen: list[…] = …`")],
)
async def test_a_state_that_would_not_come_back_as_it_is_is_not_stored_and_a_warning_names_the_remedy(
    store: EventStore, caplog: pytest.LogCaptureFixture, kind: type[Tree], text: str
) -> None:
    await store.append_events(STREAM, "Account", [opened("a")], expected_version=ANY)
    await grow(store, 299)
    for _ in range(2):
        with caplog.at_level(logging.WARNING, "twofold"):
            _, rows, status = await loaded(store, kind)
        assert rows >= 300
        assert status.saved == 0
        assert list(status.unstorable) == ["aggregate Account"]
    assert text in caplog.text
    assert await store.log.read_snapshots(limit=10) == []  # type: ignore[attr-defined]


async def test_the_state_of_a_decider_is_stored_as_well(store: EventStore) -> None:
    await store.append_events(STREAM, "Account", [opened("a")], expected_version=ANY)
    await grow(store, 299)
    for n in range(3):
        async with process(store) as (fresh, log):
            await DeciderHandler(fresh, ACCOUNT, lambda command: command.account).handle(Deposit(account="a"))
        assert fresh.snapshots.status().used == (n > 0)
        assert n == 0 or log.rows == 1 + n
    assert (await stored(store)).fold == "decider Account evolve"
    assert (await folded(store)).balance == 302


async def test_an_aggregate_and_a_decider_on_one_stream_have_snapshots_of_their_own(store: EventStore) -> None:
    await begin(store, 300)
    for _ in range(2):
        async with process(store) as (fresh, _):
            await DeciderHandler(fresh, ACCOUNT, lambda command: command.account).handle(Deposit(account="a"))
        assert (await loaded(store))[2].refused_code == 0
    assert len(await store.log.read_snapshots(limit=10)) == 2  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Balance:
    amount: Decimal = Decimal(0)


async def test_the_type_of_a_state_may_be_said_where_the_function_does_not(store: EventStore) -> None:
    def decider(state_type: Any) -> Decider[Deposit, Any, Any]:
        return Decider(
            initial_state=lambda: None,
            decide=lambda command, state: [],
            evolve=lambda state, event: Balance(Decimal(state.amount if state else 0) + getattr(event, "amount", 0)),
            stream_type="Account",
            events=(Opened, Deposited, Withdrawn),
            state_type=state_type,
        )

    await store.append_events(STREAM, "Account", [opened("a")], expected_version=ANY)
    await grow(store, 299)
    for given, saved in ((None, 0), (Balance | None, 1)):
        async with process(store) as (fresh, _):
            await DeciderHandler(fresh, decider(given), lambda command: command.account).handle(Deposit(account="a"))
        status = fresh.snapshots.status()
        assert status.saved == saved
        assert bool(status.unstorable) is not bool(saved)
        assert not status.unstorable or "state_type=" in next(iter(status.unstorable.values()))


async def test_commands_of_several_processes_on_one_long_stream_lose_and_double_nothing(url: str) -> None:
    options = Options(log=MUCH)
    for n in range(3):
        applications = [Application(url, synchronize=False, options=options) for _ in range(2)]
        for app in applications:
            wire(app)
        async with applications[0] as one, applications[1] as other:
            if n == 0:
                await one.store.append_events(STREAM, "Account", [opened("a")], expected_version=ANY)
                await grow(one.store, 100)
            turns = (one.commands, other.commands)
            balances = await asyncio.gather(*(turns[i % 2].dispatch(Deposit(account="a")) for i in range(30)))
            assert sorted(balances) == [Decimal(100 + 30 * n + i) for i in range(1, 31)]
        assert n == 0 or one.store.snapshots.status().used + other.store.snapshots.status().used == 2


async def test_a_state_that_is_too_large_is_not_stored(store: EventStore) -> None:
    await store.append_events(STREAM, "Account", [opened("a")], expected_version=ANY)
    await grow(store, 299)
    async with process(store, replace(MUCH, snapshot_bytes=10)) as (fresh, _):
        await Repository(fresh, Account).load("a")
    assert fresh.snapshots.status().saved == 0


async def test_of_states_that_wait_too_long_the_oldest_are_dropped(store: EventStore) -> None:
    names = [f"{n}" for n in range(6)]
    for name in names:
        events: Sequence[Any] = [opened(name), *(deposited(name) for _ in range(60))]
        await store.append_events(f"Account-{name}", "Account", events, expected_version=ANY)
    log = Counting(store.log)
    log.may_save.clear()
    accounts = Repository(fresh := EventStore(log, options=replace(MUCH, snapshots_waiting=2)), Account)
    for name in names:
        await accounts.load(name)
    log.may_save.set()
    await fresh.snapshots.end()
    saved = {each.subject for each in await store.log.read_snapshots(limit=10)}  # type: ignore[attr-defined]
    assert {"Account-4", "Account-5"} <= saved
    assert len(saved) <= 3


def test_a_seal_tells_its_columns_apart() -> None:
    one = Snapshot("ab", "c", 1, 1, b"", 0, 0, b"", b"", 0, 0)
    assert with_checksum(one).checksum != with_checksum(one._replace(fold="a", subject="bc")).checksum
