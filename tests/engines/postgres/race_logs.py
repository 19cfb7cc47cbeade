"""PostgreSQL logs for the race: the real one, ones with a planted bug each, and what disturbs them."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from pathlib import Path
from uuid import UUID

import psycopg
from msgspec.structs import asdict

from twofold.engines.postgres import PostgresDatabase, PostgresEventLog
from twofold.engines.postgres.log.event_columns import SELECTED
from twofold.errors import OutcomeUnknownError, StorageError
from twofold.messages.stored_event import COLUMNS, NewEvent, record
from twofold.ports.event_log import Append, Appended, EventLog, Rejected
from twofold.testing.race import Ledger, conditions, outcome_facts
from twofold.testing.samples import append_of, new_event


async def hold_transactions(url: str, chance: random.Random, seconds: float) -> None:
    """Keep writing transactions and an old snapshot open all the while; roll others back after up to 0.5 s.

    In their eyes every transaction id since then is undecided, which stalls readers that wait for an xid horizon; the
    horizon is one for all databases of a server.
    """
    end = asyncio.get_running_loop().time() + seconds
    connect = psycopg.AsyncConnection.connect
    async with (
        await connect(url) as writer,
        await connect(url) as reader,
        await connect(url) as fickle,
        await connect(url, dbname="postgres") as elsewhere,
    ):
        await elsewhere.execute("SELECT pg_current_xact_id()")
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


class _RolledBackError(Exception):
    """Chance would have it."""


async def commit_late(url: str, folder: Path, chance: random.Random, seconds: float) -> None:
    """Append in transactions that have been open for up to 2 s, and roll some of them back."""
    end = asyncio.get_running_loop().time() + seconds
    ledger, numbers = Ledger(folder / f"writer-late-{os.getpid()}"), itertools.count()
    log = PostgresEventLog(PostgresDatabase(url))
    await log.open()

    async def one(number: int) -> None:
        texts = [f"late-{os.getpid()}-{next(numbers)}" for _ in range(2)]
        append = append_of(*(new_event(f"Late-{number}", "t0", text=text) for text in texts))
        ids = [str(UUID(bytes=event.event_id)) for event in append.events]
        ledger.write(told="about to", ids=ids)
        try:
            outcome = await _append_late(log, append, chance)
        except _RolledBackError:
            ledger.write(told="refused", ids=ids)
        else:
            ledger.write(told="stored", ids=ids, **outcome_facts(outcome), **conditions(append))

    async def many(number: int) -> None:
        while asyncio.get_running_loop().time() < end:
            await one(number)

    await asyncio.gather(*map(many, range(8)))
    await log.close()


async def _append_late(log: PostgresEventLog, append: Append, chance: random.Random) -> Appended:
    try:
        async with log.transaction() as tx:
            await tx.connection.execute("SELECT pg_current_xact_id()")  # from now on it counts as a writer
            await asyncio.sleep(chance.uniform(0, 2))
            outcome = await tx.append(append)
            await asyncio.sleep(chance.choice((0, 0, 0.05)))
            if chance.random() < 0.3:
                raise _RolledBackError
    except (StorageError, OutcomeUnknownError, psycopg.OperationalError):  # it was cut: repeat it with the same ids
        outcome = await log.append(append)
    assert isinstance(outcome, Appended)
    return outcome


class OnASequence(PostgresEventLog):
    """Planted bug: positions from a plain sequence, in transactions that commit in any order."""

    def __init__(self, database: PostgresDatabase) -> None:
        super().__init__(database)
        self._mine: dict[bytes, Appended] = {}

    async def append(self, append: Append) -> Appended | Rejected:
        if earlier := self._mine.get(append.events[0].event_id):
            return earlier
        if append.condition or any(event.stream_id.startswith("Hot") for event in append.events):
            return Rejected("this one only knows streams of one writer each")
        version = max((expected for _, expected in append.expected if isinstance(expected, int)), default=-1)
        async with await psycopg.AsyncConnection.connect(**self._database._address.parameters) as connection:
            positions = [await self._insert(connection, event, version + n) for n, event in enumerate(append.events, 1)]
            await asyncio.sleep(random.uniform(0, 0.05))
            await connection.commit()
        self._mine[append.events[0].event_id] = appended = Appended(positions[0], positions[-1])
        return appended

    async def _insert(self, connection: psycopg.AsyncConnection, event: NewEvent, version: int) -> int:
        [position] = await (await connection.execute("SELECT nextval('places')")).fetchone() or [0]
        row = record(event, position, version, 0)
        as_json = {name: getattr(row, name).decode() for name in ("payload", "metadata", "tags")}
        values = asdict(row) | as_json | {"event_id": row.event_id.hex()}
        await connection.execute(
            f"INSERT INTO twofold_events ({SELECTED}) VALUES ({', '.join(['%s'] * len(COLUMNS))})".encode(),
            list(values.values()),
        )
        return position


def on_a_sequence(url: str) -> EventLog:
    return OnASequence(PostgresDatabase(url))
