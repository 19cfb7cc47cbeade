"""Long streams are not folded again and again, and what a process keeps of them never decides anything."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.accounts import Account, Deposit, Deposited, Open, Opened, wire
from tests.restorable import SqliteFile
from tests.synchronizing import deposited, engine_at, opened

from twofold import ANY, Aggregate, Application, EventStore, LogOptions, Options, Repository, on
from twofold.commands.decider import Decider
from twofold.commands.repository import DeciderHandler
from twofold.log.folding.kept_states import KeptState, KeptStates
from twofold.log.folding.snapshots import Plan, Snapshots
from twofold.log.folding.state_form import ValueForm
from twofold.log.folding.streams import Streams
from twofold.messages.stored_event import StoredEvent
from twofold.ports.event_log import EventLog
from twofold.ports.snapshots import FoundSnapshot, Snapshot

MUCH = LogOptions(short_stream=50, short_tail=4, first_chunk=20)


class Counting:
    """A log that counts the rows that are read of streams, and the looks for snapshots."""

    def __init__(self, log: EventLog) -> None:
        self._log: Any = log
        self.rows = 0
        self.looks = 0
        self.may_save = asyncio.Event()
        self.may_save.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def read_stream(self, *args: Any, **options: Any) -> Sequence[Any]:
        found: Sequence[Any] = await self._log.read_stream(*args, **options)
        self.rows += len(found)
        await asyncio.sleep(0)
        return found

    async def read_short_stream(self, stream_id: str, *, limit: int) -> Sequence[Any] | None:
        found: Sequence[Any] | None = await self._log.read_short_stream(stream_id, limit=limit)
        self.rows += len(found or ())
        await asyncio.sleep(0)
        return found

    async def find_snapshot(self, *key: str) -> FoundSnapshot:
        self.looks += 1
        found: FoundSnapshot = await self._log.find_snapshot(*key)
        return found

    async def save_snapshot(self, snapshot: Snapshot, **options: Any) -> bool:
        await self.may_save.wait()
        saved: bool = await self._log.save_snapshot(snapshot, **options)
        return saved


def counting(store: EventStore) -> tuple[Counting, Repository[Account]]:
    log = Counting(store.log)
    return log, Repository(EventStore(log, options=MUCH), Account)


async def deposit(store: EventStore, count: int, account: str = "a") -> None:
    events = [deposited(account) for _ in range(count)]
    await store.append_events(f"Account-{account}", "Account", events, expected_version=ANY)


async def begin(store: EventStore, count: int, account: str = "a") -> None:
    """Let a stream be so long that its state is kept."""
    await store.append_events(f"Account-{account}", "Account", [opened(account)], expected_version=ANY)
    await deposit(store, count, account)


async def test_a_long_stream_is_read_once_and_then_only_what_is_new(store: EventStore) -> None:
    log, accounts = counting(store)
    await begin(store, 300)
    assert (await accounts.load("a")).balance == 300
    assert log.rows >= 301
    for n in range(20):
        log.rows = 0
        await deposit(store, 1)
        assert (await accounts.load("a")).balance == 301 + n
        assert log.rows <= 2 + MUCH.short_tail


class CountingFold:
    """Counts the events, and those that it was given in all."""

    owner = name = "counting"
    ignored = ()

    def __init__(self) -> None:
        self.taken = 0

    def begin(self) -> int:
        return 0

    def take(self, state: int, events: Sequence[Any]) -> int:
        self.taken += len(events)
        return state + len(events)

    take_staged = take

    def at(self, state: int, version: int) -> int:
        return state

    def plan(self) -> Plan:
        return Plan(self.name, ValueForm("take", int), b"#")


async def test_no_event_is_folded_twice_in_one_load(store: EventStore) -> None:
    await begin(store, 300)
    kept, fold = KeptStates(MUCH.kept_states), CountingFold()
    streams = Streams(store.log, store.events, Snapshots(store.log, MUCH), MUCH, kept)
    assert await streams.fold("Account-a", fold) == (301, 301)
    assert fold.taken == 301
    await deposit(store, 20)
    assert await streams.fold("Account-a", fold) == (321, 321)
    assert fold.taken == 321


async def test_a_short_stream_is_read_each_time(store: EventStore) -> None:
    log, accounts = counting(store)
    await begin(store, 10)
    for _ in range(3):
        log.rows = 0
        assert (await accounts.load("a")).version == 11
        assert log.rows == 11


async def test_a_kept_state_with_what_came_behind_it_is_the_fold_of_all(store: EventStore) -> None:
    chance = random.Random()
    _, kept = counting(store)
    await begin(store, 60)
    for _ in range(40):
        await deposit(store, chance.randrange(1, 3 * MUCH.short_tail))
        loaded, fresh = await kept.load("a"), await Repository(EventStore(store.log), Account).load("a")
        assert vars(loaded) == vars(fresh)


async def test_of_many_that_want_one_long_stream_at_once_one_reads_it(store: EventStore) -> None:
    log, accounts = counting(store)
    await begin(store, 300)
    loaded = await asyncio.gather(*(accounts.load("a") for _ in range(16)))
    assert {each.balance for each in loaded} == {Decimal(300)}
    assert log.rows < 2 * 301 + 16 * MUCH.first_chunk


async def test_what_is_done_to_a_loaded_aggregate_does_not_change_the_next_one(store: EventStore) -> None:
    _, accounts = counting(store)
    await begin(store, 100)
    for _ in range(3):
        account = await accounts.load("a")
        assert account.balance == 100
        account.balance = Decimal(10**6)
        account.deposit(Decimal(5))
        account.owner += "!"


async def test_commands_of_two_processes_on_one_long_stream_lose_and_double_nothing(url: str) -> None:
    applications = [Application(url, synchronize=False, options=Options(log=MUCH)) for _ in range(2)]
    for app in applications:
        wire(app)
    async with applications[0] as one, applications[1] as other:
        await one.commands.dispatch(Open(account="a"))
        await deposit(one.store, 100)
        turns = (one.commands, other.commands)
        balances = await asyncio.gather(*(turns[n % 2].dispatch(Deposit(account="a")) for n in range(60)))
        assert sorted(balances) == [Decimal(100 + n) for n in range(1, 61)]


async def test_a_state_of_a_history_that_is_lost_is_forgotten(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path)
    async with engine_at(file.url) as (_, store), engine_at(file.url) as (_, other):
        _, accounts = counting(store)
        await begin(store, 60)
        await asyncio.to_thread(file.save)
        await deposit(store, 40)
        assert (await accounts.load("a")).balance == 100
        await asyncio.to_thread(file.put_back)
        assert (await accounts.load("a")).balance == 60, "shorter than what was kept"
        await deposit(store, 10)
        assert (await accounts.load("a")).balance == 70
        await asyncio.to_thread(file.put_back)
        twice = [deposited("a", 2) for _ in range(40)]
        await other.append_events("Account-a", "Account", twice, expected_version=ANY)
        assert (await accounts.load("a")).balance == 140, "as long as what was kept, and longer"


@dataclass(frozen=True)
class State:
    balance: Decimal = Decimal(0)


def evolve(state: State, event: Opened | Deposited) -> State:
    return replace(state, balance=state.balance + event.amount) if isinstance(event, Deposited) else state


DECIDER: Decider[Deposit, State, Any] = Decider(
    initial_state=State,
    decide=lambda command, state: [Deposited(account=command.account, amount=state.balance)],
    evolve=evolve,
    stream_type="Account",
    events=(Opened, Deposited),
)


async def test_the_state_of_a_decider_is_kept_as_well(store: EventStore) -> None:
    log = Counting(store.log)
    handler = DeciderHandler(EventStore(log, options=MUCH), DECIDER, lambda command: command.account)
    await begin(store, 100)
    await handler.handle(Deposit(account="a"))
    log.rows = 0
    for _ in range(3):
        await handler.handle(Deposit(account="a"))
    assert log.rows <= 3 * (2 + MUCH.short_tail)
    amounts = [each.event.amount async for each in store.read_stream("Account-a", after=101)]
    assert amounts == [Decimal(100), Decimal(200), Decimal(400), Decimal(800)]


async def test_an_aggregate_and_a_decider_on_one_stream_do_not_take_each_others_state(store: EventStore) -> None:
    both = EventStore(store.log, options=MUCH)
    accounts, handler = Repository(both, Account), DeciderHandler(both, DECIDER, lambda command: command.account)
    await begin(store, 100)
    for _ in range(2):
        balance = (await accounts.load("a")).balance
        await handler.handle(Deposit(account="a"))
        assert (await accounts.load("a")).balance == 2 * balance


MISSING = object()


class Sentinel(Aggregate):
    """Knows by identity that nothing has happened yet."""

    stream_type = "Account"

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.last: object = MISSING

    @on(Opened)
    def _opened(self, event: Opened) -> None: ...

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.last = MISSING


class Unpicklable(Sentinel):
    """Holds what cannot be copied."""

    stream_type = "Account"

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.last = None
        self.counts: dict[str, int] = defaultdict(lambda: 0)

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.counts["deposits"] += 1


@pytest.mark.parametrize("kind", [Sentinel, Unpicklable])
async def test_a_state_that_has_no_equal_copy_is_folded_each_time(store: EventStore, kind: type[Sentinel]) -> None:
    things = Repository(EventStore(store.log, options=MUCH), kind)
    await begin(store, 100)
    for _ in range(3):
        thing = await things.load("a")
        assert thing.version == 101
        if isinstance(thing, Unpicklable):
            assert thing.counts == {"deposits": 100}
        else:
            assert thing.last is MISSING


LAST = StoredEvent(1, 1, 1, 1, "owner-1", "owner", "Opened", 1, uuid4().bytes, b"{}", b"{}", b"[]")


def test_states_are_kept_up_to_a_number_of_bytes_and_those_used_last() -> None:
    states = KeptStates(10_000)
    for n in range(100):
        states.keep(("owner", str(n)), KeptState(LAST, b"x" * 1000))
        states.of_stream(("owner", "0"))
    kept = [n for n in range(100) if states.of_stream(("owner", str(n)))]
    assert 5 <= len(kept) <= 10
    assert kept[0] == 0
    assert kept[1:] == list(range(100 - len(kept) + 1, 100))
    states.keep(("owner", "large"), KeptState(LAST, b"x" * 20_000))
    assert states.of_stream(("owner", "large")) is None
