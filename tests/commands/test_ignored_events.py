"""Events that a fold ignores are not read, and count all the same: the version is the stream's."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest
from tests.accounts import Account, Deposit, Deposited, Opened, Withdrawn
from tests.log.test_streams import Counting

from twofold import ANY, Aggregate, Application, Decider, Event, EventStore, LogOptions, Repository, on
from twofold.commands.repository import DeciderHandler
from twofold.errors import ConflictError, InvalidEventError

MUCH = LogOptions(short_stream=50, short_tail=4, first_chunk=20, snapshot_every=10)
STREAM = "Account-a"


class Deposits(Aggregate):
    """Counts deposits, and needs to know of nothing else."""

    stream_type = "Account"
    ignores = (Withdrawn, Opened)

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.count = 0

    def deposit(self) -> None:
        self.record(Deposited(account=self.id, amount=Decimal(self.count)))

    def withdraw(self) -> None:
        self.record(withdrawn())

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.count += 1


DECIDER: Decider[Deposit, int, Any] = Decider(
    initial_state=int,
    decide=lambda command, count: [Deposited(account=command.account, amount=Decimal(count))],
    evolve=lambda count, event: count + (1 if isinstance(event, Deposited) else 1 // 0),
    stream_type="Account",
    events=(Deposited,),
    ignores=(Opened, Withdrawn),
)


def withdrawn() -> Withdrawn:
    return Withdrawn(account="a", amount=Decimal(0))


def deposited() -> Deposited:
    return Deposited(account="a", amount=Decimal(1))


async def append(store: EventStore, *events: Any) -> None:
    await store.append_events(STREAM, "Account", events, expected_version=ANY)


async def fill(store: EventStore) -> None:
    """Let the stream have 10 deposits among 491 events."""
    await append(store, Opened(account="a"), *([*(withdrawn() for _ in range(48)), deposited()] * 10))


def counting(store: EventStore, options: LogOptions = MUCH) -> tuple[Counting, EventStore]:
    log = Counting(store.log)
    return log, EventStore(log, options=options)


@pytest.mark.parametrize("first_chunk", [3, 100])
async def test_a_load_reads_what_it_folds_and_the_ends_of_the_stream(store: EventStore, first_chunk: int) -> None:
    await fill(store)
    log, fresh = counting(store, replace(MUCH, first_chunk=first_chunk))
    things = Repository(fresh, Deposits)
    thing = await things.load("a")
    assert (thing.count, thing.version, thing.committed_version) == (10, 491, 491)
    assert log.rows <= 10 + 2 + 6, "each chunk begins with the event behind the one before"
    thing.deposit()
    await things.save(thing)
    assert (await things.load("a")).version == 492


async def test_a_decider_does_not_get_what_it_ignores(store: EventStore) -> None:
    await fill(store)
    log, fresh = counting(store)
    handler = DeciderHandler(fresh, DECIDER, lambda command: command.account)
    for n in range(3):
        log.rows = 0
        await handler.handle(Deposit(account="a"))
        assert log.rows <= 10 + 3 + n
    amounts = [each.event.amount async for each in store.read_stream(STREAM, after=491)]
    assert amounts == [Decimal(10), Decimal(11), Decimal(12)]
    assert DECIDER.fold([deposited(), withdrawn(), deposited()]) == 2


@pytest.mark.parametrize("another", [withdrawn, deposited], ids=["ignored", "taken"])
async def test_an_append_still_depends_on_the_whole_stream(store: EventStore, another: Any) -> None:
    await fill(store)
    things = Repository(store, Deposits)
    thing = await things.load("a")
    await append(store, another())
    thing.deposit()
    with pytest.raises(ConflictError):
        await things.save(thing)


async def test_a_stream_that_ends_with_what_is_ignored_or_holds_nothing_else_has_its_version(store: EventStore) -> None:
    things = Repository(store, Deposits)
    assert await things.find("a") is None
    for version in range(1, 5):
        await append(store, withdrawn())
        thing = await things.load("a")
        assert (thing.count, thing.version) == (0, version)
    thing.withdraw()
    thing.deposit()
    await things.save(thing)
    assert (await things.load("a")).version == 6


@dataclass(frozen=True)
class Frozen(Event):
    account: str


async def test_what_is_neither_taken_nor_ignored_is_an_error_as_before(store: EventStore) -> None:
    store.events.register(Frozen)
    await append(store, deposited(), Frozen("a"), deposited())
    with pytest.raises(InvalidEventError, match="Deposits has no method for Frozen"):
        await Repository(store, Deposits).load("a")


async def test_commands_that_conflict_learn_of_what_they_ignore_and_go_on(url: str) -> None:
    async with Application(url, synchronize=False) as app:
        things, accounts = app.repository(Deposits), Repository(EventStore(app.store.log), Account)
        await append(app.store, Opened(account="a"), *(deposited() for _ in range(5)))
        attempts = 0

        async def deposit(command: Deposit) -> tuple[int, int]:
            nonlocal attempts
            attempts += 1
            thing = await things.load(command.account)
            if attempts == 1:
                others: Sequence[Any] = [withdrawn(), deposited(), withdrawn()]
                await asyncio.create_task(append(EventStore(app.store.log), *others), context=contextvars.Context())
            thing.deposit()
            thing.withdraw()
            await things.save(thing)
            again = await things.load(command.account)
            assert again.version == thing.version
            return again.count, again.version

        app.commands.register(Deposit, deposit)
        assert await app.commands.dispatch(Deposit(account="a")) == (7, 11)
        assert attempts == 2
        assert (await accounts.load("a")).version == 11
        thing = await things.load("a")
        assert (thing.count, thing.version) == (7, 11)


async def test_kept_and_stored_states_leave_out_what_is_ignored_too(store: EventStore) -> None:
    await append(store, *([deposited(), withdrawn()] * 100))
    for n in range(3):
        log, fresh = counting(store)
        things = Repository(fresh, Deposits)
        for i in range(3):
            thing = await things.load("a")
            assert (thing.count, thing.version) == (100 + 20 * n, 200 + 60 * n)
            log.rows = log.rows if i else 0
        assert log.rows <= 2 * (2 + MUCH.short_tail)
        await fresh.snapshots.end()
        assert fresh.snapshots.status().used == (n > 0)
        await append(store, *(withdrawn() for _ in range(40)), *(deposited() for _ in range(20)))


def test_what_is_taken_cannot_be_ignored() -> None:
    with pytest.raises(TypeError, match=r"Both.ignores` has Deposited, which is taken as well"):

        class Both(Deposits):
            ignores = (Deposited,)  # type: ignore[assignment]

    with pytest.raises(TypeError, match="`ignores` has Deposited, which is taken as well"):
        replace(DECIDER, ignores=(Deposited,))
    with pytest.raises(TypeError, match="classes of events"):
        replace(DECIDER, ignores=("Withdrawn",))  # type: ignore[arg-type]
