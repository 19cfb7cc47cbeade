"""A closed stream is read and folded as before, and takes no more events, whoever appends and however."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from tests.accounts import ACCOUNT, Account, Deposit, Deposited, Open, Opened, wire
from tests.synchronizing import engine_at

from twofold import (
    ANY,
    Application,
    Command,
    ConflictError,
    EventQuery,
    EventStore,
    InvalidEventError,
    LogOptions,
    NextStream,
    Options,
    StreamClosed,
    StreamClosedError,
    StreamTombstoned,
    metadata,
)
from twofold.commands.repository import DeciderHandler


class EndByHand(Command[None]):
    """Its handler appends the end of a stream."""


@pytest_asyncio.fixture
async def app(any_url: str) -> AsyncIterator[Application]:
    options = Options(log=LogOptions(short_stream=4, short_tail=2, first_chunk=3, snapshot_every=4))
    made = Application(any_url, synchronize=False, options=options)
    wire(made)
    async with made:
        yield made


async def filled(app: Application, id: str = "a", deposits: int = 3) -> Account:
    account = Account.open(id)
    for _ in range(deposits):
        account.deposit(Decimal(2))
    await app.repository(Account).save(account)
    return account


@pytest.mark.parametrize("deposits", [1, 12])
async def test_a_closed_aggregate_is_loaded_as_before_and_never_saved_again(app: Application, deposits: int) -> None:
    accounts, account = app.repository(Account), await filled(app, deposits=deposits)
    account.withdraw(Decimal(1))  # the summary
    await accounts.close(account, reason="moved away", by="ann")
    for _ in range(2):  # the second time from a kept state
        loaded = await accounts.load("a")
        assert (loaded.balance, loaded.version) == (Decimal(2 * deposits - 1), deposits + 3)
        assert account.version == loaded.version
    before = await accounts.load("a", as_of=deposits + 1)
    assert (before.balance, before.version) == (Decimal(2 * deposits), deposits + 1)
    loaded.deposit(Decimal(1))
    with pytest.raises(
        StreamClosedError, match=r"'Account-a' is closed \(moved away\).*begin another stream"
    ) as caught:
        await accounts.save(loaded)
    found = caught.value
    facts = (found.stream_id, found.reason, found.by, found.successor, found.is_tombstoned)
    assert facts == ("Account-a", "moved away", "ann", "", False)
    with pytest.raises(StreamClosedError):
        await accounts.close(await accounts.load("a"), reason="again")


async def test_a_decider_folds_a_closed_stream_and_its_command_is_refused(app: Application) -> None:
    await filled(app)
    await app.store.close_stream("Account-a", "Account", reason="moved away")
    handler: DeciderHandler[Any] = DeciderHandler(app.store, ACCOUNT, lambda command: command.account)
    assert await handler.load("a") == Decimal(6)
    stored = [each.event async for each in app.store.read_stream("Account-a")]
    taken: list[object] = []

    def note(state: Decimal, event: object) -> Decimal:
        taken.append(event)
        return state

    replace(ACCOUNT, evolve=note).fold(stored)
    assert taken == stored[:-1]
    assert Account.from_history("a", stored).version == len(stored) == 5
    with pytest.raises(StreamClosedError):
        await handler.handle(Deposit(account="a"))


async def test_a_stream_goes_on_in_its_successor_or_neither_is_changed(app: Application) -> None:
    accounts, account = app.repository(Account), await filled(app)
    following = Account.open("a-2027")
    following.deposit(account.balance)
    await filled(app, "taken")
    occupied = Account.open("taken")
    with pytest.raises(ConflictError):
        await accounts.close(account, reason="the year is over", successor=occupied)
    assert (await accounts.load("a")).version == 4
    await accounts.close(account, reason="the year is over", successor=following)
    loaded = await accounts.load("a-2027")
    assert (loaded.balance, loaded.version, following.version) == (Decimal(6), 2, 2)
    with pytest.raises(StreamClosedError, match="it goes on in 'Account-a-2027'") as caught:
        await app.store.append_events("Account-a", "Account", [Deposited(account="a", amount=Decimal(1))],
                                      expected_version=ANY)  # fmt: skip
    assert caught.value.successor == "Account-a-2027"
    loaded.deposit(Decimal(1))
    await accounts.save(loaded)


@dataclass(frozen=True, kw_only=True)
class CloseYear(Command):
    account: str
    is_followed: bool = False


async def test_a_command_closes_a_stream_with_all_else_that_it_stores(app: Application) -> None:
    accounts = app.repository(Account)
    seen = list[tuple[Decimal, int]]()

    async def close_year(command: CloseYear) -> None:
        account = await accounts.load(command.account)
        account.withdraw(account.balance)
        following = Account.open(command.account + "-2")
        following.deposit(Decimal(6))
        await accounts.close(account, reason="the year is over", successor=following)
        again = await accounts.load(command.account)
        seen.append((again.balance, again.version))
        if command.is_followed:
            again.deposit(Decimal(1))
            await accounts.save(again)

    app.commands.register(CloseYear, close_year)
    await filled(app)
    with pytest.raises(StreamClosedError):
        await app.commands.execute(CloseYear(account="a", is_followed=True))
    assert await app.store.head() == 4
    command = CloseYear(account="a")
    receipt = await app.commands.execute(command)
    assert (receipt.stream_id, receipt.version, await app.store.head()) == ("Account-a-2", 2, 8)
    assert seen == [(Decimal(0), 6)] * 2
    assert (await app.commands.execute(command)).repeated
    with pytest.raises(StreamClosedError):
        await app.commands.execute(Deposit(account="a"))


async def test_readers_of_all_events_get_the_end_of_a_stream_as_an_event(app: Application) -> None:
    await filled(app, deposits=1)
    await app.store.close_stream("Account-a", "Account", reason="moved away", by="ann")
    wanted = StreamClosed("Account-a", "Account", "moved away", "ann")
    for query in (None, EventQuery.of(StreamClosed)):
        found = [each async for each in EventStore(app.store.log, app.store.events).read(query)]
        assert found[-1].event == wanted
        assert (found[-1].stream_id, found[-1].stream_type, found[-1].version) == ("Account-a", "Account", 3)


async def test_nothing_stands_behind_the_end_within_an_append_and_own_streams_of_twofold_are_not_closed(
    app: Application,
) -> None:
    end, event = StreamClosed("s-1", "s", "over"), Opened(account="a")
    with pytest.raises(InvalidEventError, match="is the last event of its stream"):
        await app.store.append_events("s-1", "s", [end, event], expected_version=ANY)
    for hidden in ([end], [event, StreamTombstoned("s-1", "s", "over")]):
        summed_up = app.store.close_stream("s-1", "s", reason="over", expected_version=ANY, summary=hidden)
        followed = app.store.close_stream(
            "s-1", "s", reason="over", expected_version=ANY, successor=NextStream("s-2", "s", hidden)
        )
        for closing in (summed_up, followed):
            with pytest.raises(InvalidEventError, match="is the last event of its stream"):
                await closing
    with pytest.raises(ValueError, match="a stream of Twofold's own"):
        await app.store.close_stream("twofold.mails-1", "s", reason="over")
    with pytest.raises(ValueError, match="goes on in another one"):
        await app.store.close_stream("s-1", "s", reason="over", successor=NextStream("s-1", "s", [event]))
    with pytest.raises(ValueError, match="reason"):
        await app.store.close_stream("s-1", "s", reason="")
    with pytest.raises(ConflictError):
        await app.store.close_stream("s-1", "s", reason="there is no such stream")
    assert await app.store.head() == 0


@pytest.mark.parametrize("ending", [StreamClosed, StreamTombstoned])
async def test_no_stream_is_ended_by_an_event_that_is_appended_by_hand(app: Application, ending: type) -> None:
    end, account = ending("Account-a", "Account", "over"), await filled(app)
    version, head = account.version, await app.store.head()
    with pytest.raises(InvalidEventError, match=r"close_stream\(…\) or store.tombstone_stream"):
        await app.store.append_events("Account-a", "Account", [end], expected_version=version)
    with pytest.raises(InvalidEventError, match="append none by hand"):
        await app.store.append([end])
    with pytest.raises(InvalidEventError, match="close it with"):
        account.record(end)
    assert (account.version, account.uncommitted_events) == (version, ())

    async def end_it(command: EndByHand) -> None:
        await app.store.append_events("Account-a", "Account", [end], expected_version=version)

    app.commands.register(EndByHand, end_it)
    with pytest.raises(InvalidEventError, match="append none by hand"):
        await app.commands.execute(EndByHand())
    assert await app.store.head() == head


async def test_a_transaction_of_the_users_own_is_refused_a_closed_stream(url: str) -> None:
    async with engine_at(url) as (_, store):
        await store.append_events("s-1", "s", [Opened(account="a")], expected_version=ANY)
        await store.close_stream("s-1", "s", reason="over")
        with pytest.raises(StreamClosedError):
            async with store.transaction() as transaction:
                transaction.append_events("s-1", "s", [Opened(account="b")], expected_version=ANY)
        with pytest.raises(InvalidEventError, match="append none by hand"):
            async with store.transaction() as transaction:
                transaction.append_events("s-2", "s", [StreamClosed("s-2", "s", "over")], expected_version=ANY)
        assert await store.head() == 2


async def test_each_tenant_closes_its_own_streams(any_url: str) -> None:
    app = Application(any_url, synchronize=False, tenants=True)
    wire(app)
    async with app:
        for tenant in ("acme", "bolt"):
            with metadata(tenant=tenant):
                await app.commands.execute(Open(account="a"))
        with metadata(tenant="acme"):
            await app.repository(Account).close(await app.repository(Account).load("a"), reason="over")
            with pytest.raises(StreamClosedError) as caught:
                await app.commands.execute(Deposit(account="a"))
            assert caught.value.stream_id == "Account-a"
        with metadata(tenant="bolt"):
            await app.commands.execute(Deposit(account="a"))
            assert (await app.repository(Account).load("a")).balance == Decimal(1)


async def test_of_appends_and_a_closing_from_several_processes_none_is_stored_behind_the_end(url: str) -> None:
    dice = random.Random(17)
    async with engine_at(url) as (_, first), engine_at(url) as (_, second):
        streams = [f"s-{n}" for n in range(8)]

        async def append(store: EventStore, stream: str) -> int:
            await asyncio.sleep(dice.random() / 200)
            try:
                await store.append_events(stream, "s", [Opened(account="a")], expected_version=ANY)
            except StreamClosedError:
                return 0
            return 1

        async def close(store: EventStore, stream: str) -> int:
            await asyncio.sleep(dice.random() / 200)
            await store.close_stream(stream, "s", reason="over", expected_version=ANY)
            return 1

        tasks = [append(store, stream) for stream in streams for store in (first, second) for _ in range(10)]
        stored = sum(await asyncio.gather(*tasks, *(close(dice.choice([first, second]), each) for each in streams)))
        assert await first.head() == stored
        for stream in streams:
            types = [each.type async for each in first.read_stream(stream)]
            assert types.index("twofold.StreamClosed") == len(types) - 1
            for store in (first, second):
                assert await append(store, stream) == 0
