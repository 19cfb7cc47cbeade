"""PostgreSQL logs for the race: the real one, ones with a planted bug each, and what disturbs them."""

from __future__ import annotations

import asyncio
import random

import psycopg

from twofold.event_log import Append, Appended, EventLog, NewEvent, Rejected, record
from twofold.messages import uuid7
from twofold.postgres import PostgresDatabase, PostgresEventLog
from twofold.stored_event import content_checksum


def sound(url: str) -> EventLog:
    return PostgresEventLog(PostgresDatabase(url))


def broken(cls: type[PostgresEventLog], url: str) -> EventLog:
    return cls(PostgresDatabase(url))


async def hold_transactions(url: str, chance: random.Random, seconds: float) -> None:
    """Keep one writing transaction and one old snapshot open all the while; roll others back after up to 0.5 s.

    In their eyes every transaction id since then is undecided, which stalls readers that wait for an xid horizon.
    """
    end = asyncio.get_running_loop().time() + seconds
    connect = psycopg.AsyncConnection.connect
    async with await connect(url) as writer, await connect(url) as reader, await connect(url) as fickle:
        await writer.execute("CREATE TABLE foreign_rows (x int)")
        await reader.execute("SET default_transaction_isolation = 'repeatable read'")
        await reader.commit()
        await reader.execute("SELECT count(*) FROM twofold_events")
        while asyncio.get_running_loop().time() < end:
            await fickle.execute("CREATE TABLE IF NOT EXISTS other_rows (x int)")
            await fickle.execute("SELECT pg_notify('twofold', 'noise')")
            await asyncio.sleep(chance.uniform(0, 0.5))
            await fickle.rollback()
        await writer.rollback()


async def cut_connections(url: str, chance: random.Random, seconds: float) -> None:
    """Terminate backends that append, in the middle of what they do: their commits are ambiguous."""
    end = asyncio.get_running_loop().time() + seconds
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as killer:
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(chance.uniform(0.05, 0.4))
            await killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%twofold_append%'"
                " AND query NOT LIKE '%pg_terminate%' ORDER BY random() LIMIT 1"
            )


class OnASequence(PostgresEventLog):
    """Planted bug: positions from a plain sequence, in transactions that commit in any order."""

    def __init__(self, database: PostgresDatabase, *, deadline: float = 30.0) -> None:
        super().__init__(database, deadline=deadline)
        self._mine: dict[bytes, Appended] = {}

    async def append(self, append: Append) -> Appended | Rejected:
        if earlier := self._mine.get(append.events[0].event_id):
            return earlier
        if append.condition or any(event.stream_id.startswith("Hot") for event in append.events):
            return Rejected("this one only knows streams of one writer each")
        version = max((expected for _, expected in append.expected if isinstance(expected, int)), default=-1)
        async with await psycopg.AsyncConnection.connect(self._database._url) as connection:
            positions = [await self._insert(connection, event, version + n) for n, event in enumerate(append.events, 1)]
            await asyncio.sleep(random.uniform(0, 0.05))
            await connection.commit()
        self._mine[append.events[0].event_id] = appended = Appended(positions[0], positions[-1])
        return appended

    async def _insert(self, connection: psycopg.AsyncConnection, event: NewEvent, version: int) -> int:
        [position] = await (await connection.execute("SELECT nextval('places')")).fetchone() or [0]
        row = record(event, position, version, 0)
        text = [each.decode() for each in (row.payload, row.metadata, row.tags)]
        await connection.execute(
            "INSERT INTO twofold_events VALUES (%s, encode(%s, 'hex')::uuid, %s, %s, %s, %s, %s, %s, %s, %s, 0, %s)",
            [*row[:7], *text, row.checksum],
        )
        return position


class FreshIds(PostgresEventLog):
    """Planted bug: takes an answer that got lost for a failure, and tries again with new event ids."""

    async def append(self, append: Append) -> Appended | Rejected:
        outcome = await super().append(append)
        if isinstance(outcome, Rejected) or random.random() < 0.95:
            return outcome
        return await super().append(Append(tuple(map(_renamed, append.events))))


def _renamed(event: NewEvent) -> NewEvent:
    fresh = event._replace(event_id=uuid7().bytes)
    fields = (*fresh[:7], fresh.tags_json)
    return fresh._replace(content_checksum=content_checksum(*fields))
