"""What is PostgreSQL's own in the transactions that users share with the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

import psycopg
import pytest
import pytest_asyncio

from twofold import ANY, Event, EventStore, Tag, open_event_store
from twofold.errors import StorageError


@dataclass(frozen=True, kw_only=True)
class Booked(Event):
    seat: Annotated[str, Tag("seat")]


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[EventStore]:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE mails (text text)")
    async with open_event_store(url) as store:
        yield store


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


async def test_another_isolation_level_is_refused(store: EventStore, url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await connection.execute("SELECT 1")
        with pytest.raises(StorageError, match="READ COMMITTED"):
            async with store.transaction(connection) as tx:
                tx.append([Booked(seat="1")])
