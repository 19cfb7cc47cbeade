"""The user's own SQL and appends, in one transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import pytest_asyncio
from sqlalchemy import create_engine, text

from twofold import ANY, AppendCondition, Event, EventQuery, EventStore, Tag, open_event_store
from twofold.errors import ConflictError


@dataclass(frozen=True, kw_only=True)
class Booked(Event):
    seat: Annotated[str, Tag("seat")]


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[EventStore]:
    async with open_event_store(f"sqlite:///{tmp_path / 'log.db'}") as store:
        connection = sqlite3.connect(tmp_path / "log.db")
        connection.execute("CREATE TABLE mails (text TEXT)")
        connection.close()
        yield store


def mails(tmp_path: Path) -> list[str]:
    connection = sqlite3.connect(tmp_path / "log.db")
    try:
        return [text for (text,) in connection.execute("SELECT text FROM mails ORDER BY rowid")]
    finally:
        connection.close()


async def test_own_rows_and_events_are_committed_together(store: EventStore, tmp_path: Path) -> None:
    async with store.transaction() as tx:
        tx.connection.execute("INSERT INTO mails VALUES ('hello')")
        tx.append_events("Seat-1", "Seat", [Booked(seat="1")], expected_version=0)
        tx.append([Booked(seat="2")])
        assert mails(tmp_path) == []
    assert mails(tmp_path) == ["hello"]
    assert [(receipt.stream_id, receipt.version, receipt.position) for receipt in tx.receipts] == [
        ("Seat-1", 1, 1),
        ("", 0, 2),
    ]
    assert [recorded.event async for recorded in store.read()] == [Booked(seat="1"), Booked(seat="2")]


async def test_a_block_that_raises_leaves_neither(store: EventStore, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="changed my mind"):
        async with store.transaction() as tx:
            tx.connection.execute("INSERT INTO mails VALUES ('hello')")
            tx.append_events("Seat-1", "Seat", [Booked(seat="1")], expected_version=0)
            raise RuntimeError("changed my mind")
    assert mails(tmp_path) == []
    assert await store.head() == 0


async def test_a_refused_append_takes_own_rows_and_earlier_appends_back(store: EventStore, tmp_path: Path) -> None:
    await store.append([Booked(seat="1")])
    with pytest.raises(ConflictError) as caught:
        async with store.transaction() as tx:
            tx.connection.execute("INSERT INTO mails VALUES ('hello')")
            tx.append_events("Seat-2", "Seat", [Booked(seat="2")], expected_version=0)
            tx.append([Booked(seat="1")], condition=AppendCondition(EventQuery.of(Booked, tags=["seat:1"])))
    assert [recorded.event for recorded in caught.value.conflicts] == [Booked(seat="1")]
    assert mails(tmp_path) == []
    assert await store.head() == 1


async def test_other_appends_wait_for_the_block_and_keep_the_order(store: EventStore) -> None:
    async with store.transaction() as tx:
        tx.append_events("Seat-1", "Seat", [Booked(seat="1")], expected_version=0)
        other = asyncio.create_task(store.append_events("Seat-1", "Seat", [Booked(seat="2")], expected_version=ANY))
        await asyncio.sleep(0)
    assert (await other).version == 2


async def test_a_connection_of_the_users_own_is_joined_and_committed_by_its_owner(
    store: EventStore, tmp_path: Path
) -> None:
    connection = sqlite3.connect(tmp_path / "log.db", isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO mails VALUES ('hello')")
    async with store.transaction(connection) as tx:
        tx.append_events("Seat-1", "Seat", [Booked(seat="1")], expected_version=0)
    assert await store.head() == 0
    connection.execute("ROLLBACK")
    assert await store.head() == 0
    connection.execute("BEGIN IMMEDIATE")
    async with store.transaction(connection) as tx:
        tx.append_events("Seat-1", "Seat", [Booked(seat="1")], expected_version=0)
    connection.execute("COMMIT")
    connection.close()
    assert await store.head() == 1


async def test_a_subscription_is_woken_by_a_joined_append(store: EventStore) -> None:
    following = asyncio.create_task(anext(store.subscribe()))
    async with store.transaction() as tx:
        tx.append([Booked(seat="1")])
    batch = await asyncio.wait_for(following, 5)
    assert [recorded.event for recorded in batch.events] == [Booked(seat="1")]


async def test_what_is_no_sql_connection_is_refused(store: EventStore) -> None:
    with pytest.raises(TypeError, match="expected a sqlite3 connection"):
        async with store.transaction(object()):
            pass
    async with open_event_store("memory://") as memory:
        with pytest.raises(TypeError, match="not in a SQL database"):
            async with memory.transaction():
                pass


async def test_a_sqlalchemy_connection_is_joined(store: EventStore, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'log.db'}", connect_args={"check_same_thread": False})
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO mails VALUES ('yes')"))
        async with store.transaction(connection) as tx:
            tx.append([Booked(seat="1")])
    engine.dispose()
    assert mails(tmp_path) == ["yes"]
    assert await store.head() == 1


async def test_a_connection_without_a_transaction_is_refused(store: EventStore, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "log.db")
    with pytest.raises(ValueError, match="no open transaction"):
        async with store.transaction(connection):
            pass
    connection.close()
