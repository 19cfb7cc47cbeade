"""The user's own SQL and appends in one transaction, on PostgreSQL, with the driver and with SQLAlchemy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from twofold import ANY, AppendCondition, Event, EventQuery, EventStore, Tag, open_event_store
from twofold.errors import ConflictError, StorageError


@dataclass(frozen=True, kw_only=True)
class Booked(Event):
    seat: Annotated[str, Tag("seat")]


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[EventStore]:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE mails (text text)")
    async with open_event_store(url) as store:
        yield store


def mails(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT text FROM mails")]


async def test_own_rows_and_events_are_committed_together(store: EventStore, url: str) -> None:
    async with store.transaction() as tx:
        await tx.connection.execute("INSERT INTO mails VALUES ('hello')")
        tx.append_events("Seat-1", "Seat", [Booked(seat="1")], expected_version=0)
        tx.append([Booked(seat="2")])
        assert mails(url) == []
    assert mails(url) == ["hello"]
    assert [(receipt.stream_id, receipt.version, receipt.position) for receipt in tx.receipts] == [
        ("Seat-1", 1, 1),
        ("", 0, 2),
    ]


async def test_a_refused_append_takes_own_rows_and_earlier_appends_back(store: EventStore, url: str) -> None:
    await store.append([Booked(seat="1")])
    with pytest.raises(ConflictError) as caught:
        async with store.transaction() as tx:
            await tx.connection.execute("INSERT INTO mails VALUES ('hello')")
            tx.append_events("Seat-2", "Seat", [Booked(seat="2")], expected_version=0)
            tx.append([Booked(seat="1")], condition=AppendCondition(EventQuery.of(Booked, tags=["seat:1"])))
    assert [recorded.event for recorded in caught.value.conflicts] == [Booked(seat="1")]
    assert (mails(url), await store.head()) == ([], 1)


async def test_a_statement_that_failed_lets_nothing_be_stored(store: EventStore) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        async with store.transaction() as tx:
            tx.append([Booked(seat="1")])
            await tx.connection.execute("INSERT INTO nowhere VALUES (1)")
    assert await store.head() == 0


async def test_the_log_is_locked_only_when_the_block_ends(store: EventStore) -> None:
    async with store.transaction() as tx:
        await tx.connection.execute("INSERT INTO mails VALUES ('hello')")
        tx.append_events("Seat-1", "Seat", [Booked(seat="1")], expected_version=ANY)
        other = await asyncio.wait_for(
            store.append_events("Seat-1", "Seat", [Booked(seat="2")], expected_version=ANY), 5
        )
    assert (other.position, tx.receipts[0].position) == (1, 2)


async def test_a_subscription_is_woken_by_a_joined_append(store: EventStore) -> None:
    following = asyncio.create_task(anext(store.subscribe()))
    async with store.transaction() as tx:
        tx.append([Booked(seat="1")])
    batch = await asyncio.wait_for(following, 5)
    assert [recorded.event for recorded in batch.events] == [Booked(seat="1")]


async def test_a_connection_of_the_users_own_is_joined_and_committed_by_its_owner(store: EventStore, url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("INSERT INTO mails VALUES ('hello')")
        async with store.transaction(connection) as tx:
            tx.append([Booked(seat="1")])
        assert await store.head() == 0
        await connection.rollback()
        assert (await store.head(), mails(url)) == (0, [])
        async with connection.transaction(), store.transaction(connection) as tx:
            tx.append([Booked(seat="1")])
    assert await store.head() == 1


async def test_a_sqlalchemy_connection_is_joined(store: EventStore, url: str) -> None:
    engine = create_async_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with pytest.raises(RuntimeError, match="changed my mind"):
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO mails VALUES ('no')"))
            async with store.transaction(connection) as tx:
                tx.append([Booked(seat="1")])
            raise RuntimeError("changed my mind")
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO mails VALUES ('yes')"))
        async with store.transaction(connection) as tx:
            tx.append([Booked(seat="2")])
    await engine.dispose()
    assert mails(url) == ["yes"]
    assert [recorded.event async for recorded in store.read()] == [Booked(seat="2")]


async def test_another_isolation_level_is_refused(store: EventStore, url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await connection.execute("SELECT 1")
        with pytest.raises(StorageError, match="READ COMMITTED"):
            async with store.transaction(connection) as tx:
                tx.append([Booked(seat="1")])


async def test_what_is_no_open_connection_is_refused(store: EventStore, url: str) -> None:
    with pytest.raises(TypeError, match="expected a psycopg AsyncConnection"):
        async with store.transaction(object()):
            pass
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        with pytest.raises(ValueError, match="no open transaction"):
            async with store.transaction(connection):
                pass
