"""The user's own SQL and appends, in one transaction."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine
from tests.synchronizing import PATIENCE

from twofold import ANY, AppendCondition, Event, EventQuery, EventStore, Receipt, Tag, open_event_store
from twofold.errors import ConflictError, DuplicateEventIdError, RepeatedTransactionError, TransactionReusedError
from twofold.messages.ids import uuid7

HELLO = "INSERT INTO mails VALUES ('hello')"


@dataclass(frozen=True, kw_only=True)
class Booked(Event):
    seat: Annotated[str, Tag("seat")]


class Users:
    """What a user does with a database of either engine, on connections of the driver."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self.file = url.removeprefix("sqlite:///")
        self.expected = "expected a sqlite3 connection" if self.is_sqlite else "expected a psycopg AsyncConnection"

    async def connect(self) -> Any:
        """Return a connection on which a transaction is open."""
        if self.is_sqlite:
            connection = sqlite3.connect(self.file, isolation_level=None, check_same_thread=False)
            connection.execute("BEGIN IMMEDIATE")
            return connection
        return await psycopg.AsyncConnection.connect(self.url)

    async def connect_without_transaction(self) -> Any:
        if self.is_sqlite:
            return sqlite3.connect(self.file, isolation_level=None, check_same_thread=False)
        return await psycopg.AsyncConnection.connect(self.url, autocommit=True)

    async def mails(self) -> list[str]:
        connection = await self.connect_without_transaction()
        rows = await done(connection.execute("SELECT text FROM mails"))
        found = [text for (text,) in await done(rows.fetchall())]
        await done(connection.close())
        return found


async def done(result: Any) -> Any:
    """Await what an asynchronous driver returns; the other one is done already."""
    return await result if inspect.isawaitable(result) else result


@pytest.fixture
def users(url: str) -> Users:
    return Users(url)


@pytest_asyncio.fixture
async def store(users: Users) -> AsyncIterator[EventStore]:
    async with open_event_store(users.url) as store:
        connection = await users.connect_without_transaction()
        await done(connection.execute("CREATE TABLE mails (text TEXT)"))
        await done(connection.close())
        yield store


async def test_own_rows_and_events_are_committed_together(store: EventStore, users: Users) -> None:
    async with store.transaction() as tx:
        await done(tx.connection.execute(HELLO))
        tx.append_events("Seat-1", "Seat", [Booked(seat="1")], expected_version=0)
        tx.append([Booked(seat="2")])
        assert await users.mails() == []
    assert await users.mails() == ["hello"]
    assert [(receipt.stream_id, receipt.version, receipt.position) for receipt in tx.receipts] == [
        ("Seat-1", 1, 1),
        ("", 0, 2),
    ]
    assert [recorded.event async for recorded in store.read()] == [Booked(seat="1"), Booked(seat="2")]


async def test_a_block_that_raises_leaves_neither(store: EventStore, users: Users) -> None:
    with pytest.raises(RuntimeError, match="changed my mind"):
        async with store.transaction() as tx:
            await done(tx.connection.execute(HELLO))
            tx.append_events("Seat-1", "Seat", [Booked(seat="1")], expected_version=0)
            raise RuntimeError("changed my mind")
    assert await users.mails() == []
    assert await store.head() == 0


async def test_a_refused_append_takes_own_rows_and_earlier_appends_back(store: EventStore, users: Users) -> None:
    await store.append([Booked(seat="1")])
    with pytest.raises(ConflictError) as caught:
        async with store.transaction() as tx:
            await done(tx.connection.execute(HELLO))
            tx.append_events("Seat-2", "Seat", [Booked(seat="2")], expected_version=0)
            tx.append([Booked(seat="1")], condition=AppendCondition(EventQuery.of(Booked, tags=["seat:1"])))
    assert [recorded.event for recorded in caught.value.conflicts] == [Booked(seat="1")]
    assert await users.mails() == []
    assert await store.head() == 1


async def test_an_append_sees_the_earlier_ones_of_its_transaction(store: EventStore, users: Users) -> None:
    with pytest.raises(ConflictError, match="'Seat-1' is at version 1, expected 0") as caught:
        async with store.transaction() as tx:
            await done(tx.connection.execute(HELLO))
            tx.append_events("Seat-1", "Seat", [Booked(seat="1")], expected_version=0)
            tx.append_events("Seat-1", "Seat", [Booked(seat="2")], expected_version=0)
    assert [recorded.event for recorded in caught.value.conflicts] == [Booked(seat="1")]
    assert await users.mails() == []
    assert await store.head() == 0


async def book(store: EventStore, *event_ids: UUID, connection: Any = None) -> Sequence[Receipt[None]]:
    """Write a mail and book two seats in one transaction."""
    first, second = ([each] for each in event_ids) if event_ids else (None, None)
    async with store.transaction(connection) as tx:
        await done(tx.connection.execute(HELLO))
        tx.append_events("Seat-1", "Seat", [Booked(seat="1")], expected_version=0, event_ids=first)
        tx.append([Booked(seat="2")], event_ids=second)
    return tx.receipts


async def test_a_repeat_of_a_transaction_rolls_own_rows_back_and_gives_the_first_receipts(
    store: EventStore, users: Users
) -> None:
    event_ids = uuid7(), uuid7()
    first = await book(store, *event_ids)
    again = await book(store, *event_ids)
    assert await users.mails() == ["hello"]
    assert await store.head() == 2
    assert [receipt.repeated for receipt in (*first, *again)] == [False, False, True, True]
    assert [replace(receipt, repeated=False) for receipt in again] == first


async def test_many_repeats_of_a_transaction_at_once_take_effect_once(store: EventStore, users: Users) -> None:
    event_ids = uuid7(), uuid7()
    outcomes = await asyncio.gather(*(book(store, *event_ids) for _ in range(8)))
    assert await users.mails() == ["hello"]
    assert await store.head() == 2
    assert sorted(receipts[0].repeated for receipts in outcomes) == [False] + [True] * 7
    assert {tuple(receipt.position for receipt in receipts) for receipts in outcomes} == {(1, 2)}


async def test_more_transactions_at_once_than_there_are_threads_all_come_to_their_turn(
    store: EventStore, users: Users
) -> None:
    async def write(number: int) -> None:
        async with store.transaction() as tx:
            await done(tx.connection.execute(HELLO))
            tx.append([Booked(seat=str(number))])

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*map(write, range(40)))
    assert len(await users.mails()) == await store.head() == 40


async def test_a_repeat_on_a_connection_of_the_users_own_is_told_so_that_its_owner_rolls_back(
    store: EventStore, users: Users
) -> None:
    event_ids = uuid7(), uuid7()
    first = await book(store, *event_ids)
    connection = await users.connect()
    with pytest.raises(RepeatedTransactionError, match="roll back the connection") as caught:
        await book(store, *event_ids, connection=connection)
    await done(connection.execute("ROLLBACK"))
    await done(connection.close())
    assert [replace(receipt, repeated=False) for receipt in caught.value.receipts] == first
    assert await users.mails() == ["hello"]
    assert await store.head() == 2


async def test_a_repeat_of_an_append_that_was_alone_rolls_own_rows_back(store: EventStore, users: Users) -> None:
    event_id = uuid7()
    await store.append([Booked(seat="1")], event_ids=[event_id])
    async with store.transaction() as tx:
        await done(tx.connection.execute(HELLO))
        tx.append([Booked(seat="1")], event_ids=[event_id])
    assert [(receipt.position, receipt.repeated) for receipt in tx.receipts] == [(1, True)]
    assert await users.mails() == []
    assert await store.head() == 1


async def test_a_transaction_that_is_stored_in_part_is_refused_whole(store: EventStore, users: Users) -> None:
    event_ids = uuid7(), uuid7()
    await book(store, *event_ids)
    with pytest.raises(TransactionReusedError, match=r"append 1 of the transaction is stored .*, append 2 is not"):
        await book(store, event_ids[0], uuid7())
    assert await users.mails() == ["hello"]
    assert await store.head() == 2


async def test_an_error_of_the_users_own_sql_passes_through_unchanged(store: EventStore, users: Users) -> None:
    with pytest.raises(sqlite3.OperationalError if users.is_sqlite else psycopg.errors.UndefinedTable):
        async with store.transaction() as tx:
            tx.append([Booked(seat="1")])
            await done(tx.connection.execute("INSERT INTO nowhere VALUES (1)"))
    assert await store.head() == 0


async def test_an_event_id_of_another_event_takes_all_back(store: EventStore, users: Users) -> None:
    event_id = uuid7()
    await store.append([Booked(seat="1")], event_ids=[event_id])
    with pytest.raises(DuplicateEventIdError):
        async with store.transaction() as tx:
            await done(tx.connection.execute(HELLO))
            tx.append([Booked(seat="2")], event_ids=[event_id])
    assert await users.mails() == []
    assert await store.head() == 1


async def test_other_appends_beside_an_open_block_are_stored_and_keep_the_order(store: EventStore) -> None:
    async with store.transaction() as tx:
        tx.append_events("Seat-1", "Seat", [Booked(seat="1")], expected_version=ANY)
        other = asyncio.create_task(store.append_events("Seat-1", "Seat", [Booked(seat="2")], expected_version=ANY))
        await asyncio.sleep(0)
    assert sorted([(await other).version, tx.receipts[0].version]) == [1, 2]


@pytest.mark.parametrize("is_kept", [True, False])
async def test_a_connection_of_the_users_own_is_joined_and_ended_by_its_owner(
    store: EventStore, users: Users, is_kept: bool
) -> None:
    connection = await users.connect()
    await done(connection.execute(HELLO))
    async with store.transaction(connection) as tx:
        tx.append_events("Seat-1", "Seat", [Booked(seat="1")], expected_version=0)
    assert await store.head() == 0
    await done(connection.execute("COMMIT" if is_kept else "ROLLBACK"))
    await done(connection.close())
    assert await store.head() == is_kept
    assert await users.mails() == (["hello"] if is_kept else [])


async def test_other_appends_wait_for_the_owner_of_a_joined_transaction(store: EventStore, users: Users) -> None:
    connection = await users.connect()
    async with store.transaction(connection) as tx:
        tx.append_events("Seat-1", "Seat", [Booked(seat="1")], expected_version=0)
    other = asyncio.create_task(store.append_events("Seat-1", "Seat", [Booked(seat="2")], expected_version=ANY))
    finished, _ = await asyncio.wait({other}, timeout=0.1)
    assert not finished
    await done(connection.execute("COMMIT"))
    await done(connection.close())
    assert (await other).version == 2


async def test_a_connection_without_a_transaction_is_refused(store: EventStore, users: Users) -> None:
    connection = await users.connect_without_transaction()
    with pytest.raises(ValueError, match="no open transaction to join"):
        async with store.transaction(connection) as tx:
            tx.append([Booked(seat="1")])
    await done(connection.close())
    assert await store.head() == 0


async def test_a_subscription_is_woken_by_a_joined_append(store: EventStore) -> None:
    following = asyncio.create_task(anext(store.subscribe()))
    async with store.transaction() as tx:
        tx.append([Booked(seat="1")])
    batch = await asyncio.wait_for(following, PATIENCE)
    assert [recorded.event for recorded in batch.events] == [Booked(seat="1")]


async def test_what_is_no_sql_connection_is_refused(store: EventStore, users: Users) -> None:
    with pytest.raises(TypeError, match=users.expected):
        async with store.transaction(object()):
            pass


async def test_a_log_in_memory_has_no_transaction() -> None:
    async with open_event_store("memory://") as memory:
        with pytest.raises(TypeError, match="not in a SQL database"):
            async with memory.transaction():
                pass


async def _with_sqlite(store: EventStore, users: Users, statement: str | None, end: str) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{users.file}", connect_args={"check_same_thread": False})
    with engine.connect() as connection, connection.begin() as transaction:
        if statement:
            connection.execute(sqlalchemy.text(statement))
        async with store.transaction(connection) as tx:
            tx.append([Booked(seat="1")])
        getattr(transaction, end)()
    engine.dispose()


async def _with_psycopg(store: EventStore, users: Users, statement: str | None, end: str) -> None:
    engine = create_async_engine(users.url.replace("postgresql://", "postgresql+psycopg://"))
    async with engine.connect() as connection, connection.begin() as transaction:
        if statement:
            await connection.execute(sqlalchemy.text(statement))
        async with store.transaction(connection) as tx:
            tx.append([Booked(seat="1")])
        await getattr(transaction, end)()
    await engine.dispose()


@pytest.fixture
def joined_by_sqlalchemy(store: EventStore, users: Users) -> Callable[[str | None, str], Awaitable[None]]:
    join = _with_sqlite if users.is_sqlite else _with_psycopg
    return lambda statement, end: join(store, users, statement, end)


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("statement", [HELLO, None])
async def test_a_connection_of_sqlalchemy_is_joined(
    store: EventStore, users: Users, joined_by_sqlalchemy: Any, statement: str | None, end: str
) -> None:
    await joined_by_sqlalchemy(statement, end)
    is_kept = end == "commit"
    assert await store.head() == is_kept
    assert await users.mails() == (["hello"] if is_kept and statement else [])


async def test_a_connection_of_sqlalchemy_that_has_begun_nothing_is_refused(store: EventStore, users: Users) -> None:
    refused = pytest.raises(ValueError, match="no open transaction to join")
    if users.is_sqlite:
        engine = sqlalchemy.create_engine(f"sqlite:///{users.file}", connect_args={"check_same_thread": False})
        with engine.connect() as connection, refused:
            async with store.transaction(connection):
                pass
        engine.dispose()
    else:
        other = create_async_engine(users.url.replace("postgresql://", "postgresql+psycopg://"))
        async with other.connect() as joined:
            with refused:
                async with store.transaction(joined):
                    pass
        await other.dispose()
