"""From the store into the domain and back, outside of commands; within them, see `test_command_bus`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from tests.accounts import Account, Deposited, Open

from twofold import (
    Application,
    Command,
    CommandOptions,
    EventStore,
    LogOptions,
    Options,
    Repository,
    open_event_store,
)
from twofold.errors import (
    AggregateNotFoundError,
    ConflictError,
    InvalidHandlerError,
    LimitExceededError,
    UnknownEventTypeError,
)


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[EventStore]:
    async with open_event_store(url) as store:
        yield store


@pytest.fixture
def accounts(store: EventStore) -> Repository[Account]:
    return Repository(store, Account)


async def test_what_is_saved_is_loaded(accounts: Repository[Account]) -> None:
    account = Account.open("a", "bob")
    account.deposit(Decimal("2.50"))
    await accounts.save(account)
    loaded = await accounts.load("a")
    assert (loaded.id, loaded.owner, loaded.balance, loaded.version) == ("a", "bob", Decimal("2.50"), 2)
    assert account.uncommitted_events == ()


async def test_outside_of_a_command_it_is_stored_at_once(accounts: Repository[Account], store: EventStore) -> None:
    await accounts.save(Account.open("a"))
    assert await store.head() == 1


async def test_saving_without_changes_stores_nothing(accounts: Repository[Account], store: EventStore) -> None:
    await accounts.save(Account.open("a"))
    await accounts.save(await accounts.load("a"))
    assert await store.head() == 1


async def test_what_does_not_exist_is_not_found(accounts: Repository[Account]) -> None:
    assert await accounts.find("a") is None
    with pytest.raises(AggregateNotFoundError, match="there is no Account 'a'"):
        await accounts.load("a")


async def test_of_two_that_were_loaded_at_once_the_second_conflicts_and_keeps_its_events(
    accounts: Repository[Account],
) -> None:
    await accounts.save(Account.open("a"))
    one, two = await accounts.load("a"), await accounts.load("a")
    one.deposit(Decimal(1))
    two.deposit(Decimal(2))
    await accounts.save(one)
    with pytest.raises(ConflictError) as caught:
        await accounts.save(two)
    assert [each.event for each in caught.value.conflicts] == [Deposited(account="a", amount=Decimal(1))]
    assert two.uncommitted_events == (Deposited(account="a", amount=Decimal(2)),)


async def test_an_existing_thing_cannot_be_created_again(accounts: Repository[Account]) -> None:
    await accounts.save(Account.open("a"))
    with pytest.raises(ConflictError, match="stream 'Account-a' is at version 1, expected 0"):
        await accounts.save(Account.open("a"))


async def test_an_aggregate_may_be_saved_again_and_again(accounts: Repository[Account]) -> None:
    account = Account.open("a")
    for amount in range(3):
        account.deposit(Decimal(amount))
        await accounts.save(account)
    assert (await accounts.load("a")).version == account.version == 4


@pytest.mark.parametrize("deposits", [98, 99, 100, 350])
async def test_a_stream_is_loaded_to_its_end_however_its_length_fits_the_chunks(
    store: EventStore, deposits: int
) -> None:
    events = [Deposited(account="a", amount=Decimal(1))] * deposits
    accounts = Repository(store, Account)
    account = Account.open("a")
    await accounts.save(account)
    await store.append_events("Account-a", "Account", events, expected_version=1)
    loaded = await accounts.load("a")
    assert (loaded.version, loaded.balance) == (deposits + 1, Decimal(deposits))


async def test_a_repository_registers_the_events_that_it_reads(accounts: Repository[Account], url: str) -> None:
    await accounts.save(Account.open("a"))
    async with open_event_store(url) as another:
        with pytest.raises(UnknownEventTypeError, match="'Opened', which is not registered"):
            [each async for each in another.read()]
        assert await Repository(another, Account).load("a")


# -- load, act, save in one line ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Pay(Command[Decimal]):
    account_id: str
    amount: Decimal = Decimal(1)


class PayAsStruct(msgspec.Struct, frozen=True):
    id: str
    amount: Decimal = Decimal(1)


@dataclass(frozen=True, kw_only=True)
class PayFor(Command[Decimal]):
    payee: str
    amount: Decimal = Decimal(1)


def pay(account: Account, command: Any) -> Decimal:
    account.deposit(command.amount)
    return account.balance


@pytest_asyncio.fixture
async def bank(url: str) -> AsyncIterator[Application]:
    async with Application(url) as app:
        await app.repository(Account).save(Account.open("a"))
        yield app


async def test_a_handler_that_loads_acts_and_saves_is_one_line(bank: Application) -> None:
    accounts = bank.repository(Account)
    accounts.handle(Pay, pay)
    accounts.handle(PayAsStruct, pay)
    accounts.handle(PayFor, pay, id=lambda command: command.payee)
    commands: list[Any] = [Pay(account_id="a"), PayAsStruct("a"), PayFor(payee="a")]
    assert [await bank.commands.dispatch(each) for each in commands] == [1, 2, 3]
    again = await bank.commands.execute(commands[0])
    assert (again.value, again.repeated) == (Decimal(1), True)
    with pytest.raises(AggregateNotFoundError, match="there is no Account 'b'"):
        await bank.commands.dispatch(Pay(account_id="b"))


def test_a_command_without_the_id_of_its_aggregate_names_the_line_to_write(bank: Application) -> None:
    with pytest.raises(InvalidHandlerError, match=r"no field account_id; .* id=lambda command: command.payee"):
        bank.repository(Account).handle(PayFor, pay)


def test_a_function_that_awaits_is_refused(bank: Application) -> None:
    async def pay_later(account: Account, command: Pay) -> None: ...

    with pytest.raises(InvalidHandlerError, match="an aggregate decides without I/O"):
        bank.repository(Account).handle(Pay, pay_later)


def test_a_repository_without_a_bus_handles_nothing(accounts: Repository[Account]) -> None:
    with pytest.raises(InvalidHandlerError, match=r"use app\.repository\(Account\)"):
        accounts.handle(Pay, pay)


async def test_an_application_hands_its_options_on(tmp_path: Path) -> None:
    options = Options(commands=CommandOptions(blind_attempts=2), log=LogOptions(max_events=1))
    async with Application(f"sqlite:///{tmp_path}/app.db", options=options) as app:
        with pytest.raises(LimitExceededError, match="at most 1 events"):
            await app.store.append([Deposited(account="a", amount=Decimal(1))] * 2)
        tries = list[int]()

        async def open_again(command: Open) -> None:
            tries.append(1)
            await app.repository(Account).save(Account.open("a"))

        app.commands.register(Open, open_again)
        await app.commands.dispatch(Open(account="a"))
        with pytest.raises(ConflictError):
            await app.commands.dispatch(Open(account="a"))
        assert len(tries) == 1 + 2
