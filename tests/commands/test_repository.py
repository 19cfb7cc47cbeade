"""From the store into the domain and back, outside of commands; within them, see `test_command_bus`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
import pytest_asyncio
from tests.accounts import Account, Deposited

from twofold import EventStore, Repository, open_event_store
from twofold.errors import AggregateNotFoundError, ConflictError, UnknownEventTypeError


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


async def test_a_repository_registers_the_events_that_it_reads(accounts: Repository[Account], url: str) -> None:
    await accounts.save(Account.open("a"))
    async with open_event_store(url) as another:
        with pytest.raises(UnknownEventTypeError, match="'Opened', which is not registered"):
            [each async for each in another.read()]
        assert await Repository(another, Account).load("a")
