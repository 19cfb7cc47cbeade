"""Transactions that are open beside the log, here or in another database, neither hold its readers up nor mix them up.

The planted logs do what others have done: they read up to the oldest transaction that is still open, or in the order
in which transactions began.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.engines.postgres.test_outcomes import opened
from tests.synchronizing import PATIENCE

from twofold.engines.postgres import PostgresDatabase, PostgresEventLog
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import StoredEvent
from twofold.ports.event_log import Appended
from twofold.testing.samples import append_of, new_event

EVERYTHING = EventQuery.all()
BEHIND_THE_HORIZON = (
    b"SELECT position FROM twofold_events WHERE xmin::text::bigint < txid_snapshot_xmin(txid_current_snapshot())"
)
BY_TRANSACTION = b"SELECT position FROM twofold_events ORDER BY xmin::text::bigint, position"


class _Choosing(PostgresEventLog):
    """Reads what a statement says, in its order."""

    statement = b""

    async def read(self, query: EventQuery, *, limit: int, **window: Any) -> Sequence[StoredEvent]:
        rows = {row.position: row for row in await super().read(query, limit=limit, **window)}
        async with self._database.connection() as connection:
            places = await (await connection.execute(self.statement)).fetchall()
        return [rows[place] for (place,) in places if place in rows]


class BehindTheHorizon(_Choosing):
    statement = BEHIND_THE_HORIZON


class ByTransaction(_Choosing):
    statement = BY_TRANSACTION


@asynccontextmanager
async def writing_elsewhere(url: str, database: str | None) -> AsyncIterator[None]:
    """Keep a transaction open that has written, in this database or in another one of the server."""
    address = make_conninfo(url, dbname=database) if database else url
    async with await psycopg.AsyncConnection.connect(address) as connection:
        await connection.execute("SELECT pg_current_xact_id()")
        yield
        await connection.rollback()


async def check_not_held_up(log: PostgresEventLog, url: str, database: str | None) -> None:
    async with writing_elsewhere(url, database):
        await log.append(append_of(new_event("Note-1"), new_event("Note-2")))
        assert await log.wait(0, PATIENCE) == 2
        assert [row.position for row in await log.read(EVERYTHING, limit=10)] == [1, 2], "the reader is held up"


async def check_not_mixed_up(log: PostgresEventLog) -> None:
    """The transaction that began first appends last."""
    async with log.transaction() as late:
        await late.connection.execute("SELECT pg_current_xact_id()")
        await log.append(append_of(new_event("Note-1")))
        assert isinstance(await late.append(append_of(new_event("Note-1"))), Appended)
    rows = await log.read(EVERYTHING, limit=10)
    assert [(row.position, row.version) for row in rows] == [(1, 1), (2, 2)], "a stream is inverted"


@pytest.mark.parametrize("database", [None, "postgres"], ids=["here", "in another database"])
async def test_a_transaction_that_stays_open_holds_no_reader_up(url: str, database: str | None) -> None:
    async with opened(url) as log:
        await check_not_held_up(log, url, database)


async def test_a_transaction_that_began_earlier_and_appends_later_comes_later(url: str) -> None:
    async with opened(url) as log:
        await check_not_mixed_up(log)


@pytest.mark.parametrize("database", [None, "postgres"], ids=["here", "in another database"])
async def test_a_reader_that_waits_for_the_oldest_transaction_is_found(url: str, database: str | None) -> None:
    async with planted(BehindTheHorizon, url) as log:
        with pytest.raises(AssertionError, match="the reader is held up"):
            await check_not_held_up(log, url, database)


async def test_a_reader_in_the_order_of_transactions_is_found(url: str) -> None:
    async with planted(ByTransaction, url) as log:
        with pytest.raises(AssertionError, match="a stream is inverted"):
            await check_not_mixed_up(log)


@asynccontextmanager
async def planted(bug: Callable[[PostgresDatabase], PostgresEventLog], url: str) -> AsyncIterator[PostgresEventLog]:
    log = bug(PostgresDatabase(url))
    await log.open()
    yield log
    await log.close()
