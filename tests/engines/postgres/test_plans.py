"""What the hot statements touch on a large log: index entries that they need, and no table as a whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import psycopg
import pytest
from tests.campaigns.log.logs import sound
from tests.postgres_servers import PostgresServer

from twofold.messages.event_query import EventQuery, QueryItem
from twofold.messages.mark import Mark
from twofold.ports.event_log import Appended, EventLog, Rejected
from twofold.testing.samples import append_of, new_event

EVENTS = 300_000
"""Hundreds of times as many as any of the hot statements may touch."""
STREAMS, FEW = EVENTS // 10, EVENTS // 20
FILL = f"""
    INSERT INTO twofold_events (
        position, event_id, stream_id, stream_type, version, type, schema_version, payload, metadata, tags, recorded_at,
        checksum)
    SELECT n, gen_random_uuid(), 'S-' || n % {STREAMS}, 'S', (n - 1) / {STREAMS} + 1,
        CASE WHEN n % {STREAMS} = 0 THEN 'Rare' ELSE 'Common' || n % 3 END, 1, '{{}}', '{{}}', '[]', n, 0
    FROM generate_series(1, {EVENTS}) AS n;
    INSERT INTO twofold_event_tags
    SELECT tag, n FROM generate_series(1, {EVENTS}) AS n, LATERAL (
        VALUES ('half:' || n % 2), ('few:' || n % {FEW})) AS t (tag);
    ANALYZE"""
TABLES = "('twofold_events', 'twofold_event_tags', 'twofold_commands')"


@pytest.fixture(scope="module")
def large_log(postgres_server: Callable[[int], PostgresServer]) -> Iterator[str]:
    """Return the address of a log whose streams have ten events, each with a tag of many and one of few."""
    with postgres_server(18).database() as url:
        asyncio.run(_migrated(url))
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica; SET synchronous_commit = off")
            connection.execute(FILL.encode())
        yield url


async def _migrated(url: str) -> None:
    log = sound(url)
    await log.open()
    await log.close()


def read(query: EventQuery, *, limit: int = 100, after: int = 0) -> Callable[[EventLog], Awaitable[object]]:
    return lambda log: log.read(query, after=after, limit=limit)


def scan(query: EventQuery, *, limit: int = 100, after: int = 0) -> Callable[[EventLog], Awaitable[object]]:
    """Scan as often as it takes the driver to prepare the statement, and the server to keep a plan for any values."""

    async def repeatedly(log: EventLog) -> None:
        for _ in range(25):
            await log.scan(query, after=Mark(after), limit=limit)

    return repeatedly


async def load_a_stream(log: EventLog) -> None:
    assert len(await log.read_stream("S-77", limit=1000)) == 10


async def append_to_a_stream(log: EventLog) -> None:
    outcome = await log.append(append_of(new_event("S-77"), expected={"S-77": 0}))
    assert isinstance(outcome, Rejected)
    outcome = await log.append(append_of(new_event("S-77"), expected={"S-77": outcome.version}))
    assert isinstance(outcome, Appended)


async def decide_on_a_rare_tag(log: EventLog) -> None:
    query = EventQuery((QueryItem((), ("few:7",)), QueryItem(("Rare",), ("half:1",))))
    assert isinstance(await log.append(append_of(new_event(""), fail_if=query, after=EVENTS)), Appended)


async def decide_on_two_tags_over_the_whole_log(log: EventLog) -> None:
    query = EventQuery((QueryItem((), ("few:7", "half:0")),))
    assert isinstance(await log.append(append_of(new_event(""), fail_if=query)), Appended)


@pytest.mark.parametrize(
    ("do", "most"),
    [
        (load_a_stream, 100),
        (append_to_a_stream, 1000),
        (decide_on_a_rare_tag, 1000),
        (decide_on_two_tags_over_the_whole_log, 2000),
        (read(EventQuery.all(), after=EVENTS // 2), 1000),
        (read(EventQuery.of("Common1", "Common2", "Rare"), after=EVENTS // 2), 2000),
        (read(EventQuery.of("Rare")), 1000),
        (read(EventQuery.of(tags=["few:7"])), 1000),
        (read(EventQuery.of(tags=["few:7", "half:1"])), 2000),
        (read(EventQuery.of("Common1", tags=["half:1"]), limit=10), 2000),
        (scan(EventQuery.all(), after=EVENTS // 2), 25 * 1000),
        (scan(EventQuery.of("Common1", "Common2", "Rare"), after=EVENTS // 2), 25 * 2000),
        (scan(EventQuery.of("Rare")), 25 * 1000),
        (scan(EventQuery.of("Rare"), after=EVENTS - 1, limit=1), 25 * 1000),
        (scan(EventQuery.of(tags=["few:7", "half:1"])), 25 * 2000),
    ],
)
async def test_a_hot_statement_reads_no_table_as_a_whole(
    large_log: str, do: Callable[[EventLog], Awaitable[object]], most: int
) -> None:
    before = touched(large_log)
    log = sound(large_log)
    await log.open()
    await do(log)
    await log.close()  # backends tell what they did when they end
    scanned, fetched = (after - earlier for after, earlier in zip(touched(large_log), before, strict=True))
    assert scanned == 0
    assert fetched < most


def test_a_scan_would_be_noticed(large_log: str) -> None:
    before = touched(large_log)
    with psycopg.connect(large_log) as connection:
        connection.execute("SELECT count(*) FROM twofold_events WHERE payload::text = 'nothing'")
    assert touched(large_log)[0] - before[0] >= EVENTS


def touched(url: str) -> tuple[int, int]:
    """Return how many rows were read by scans, and how many entries of indexes, since the tables exist."""
    with psycopg.connect(url, autocommit=True) as connection:
        pids = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        while connection.execute(f"{pids} AND backend_type = 'client backend'".encode()).fetchone() != (0,):
            time.sleep(0.005)  # another backend is about to end
        sql = f"""
            SELECT coalesce(sum(seq_tup_read), 0)::bigint,
                (SELECT coalesce(sum(idx_tup_read), 0)::bigint FROM pg_stat_user_indexes WHERE relname IN {TABLES})
            FROM pg_stat_user_tables WHERE relname IN {TABLES}"""
        row = connection.execute(sql.encode()).fetchone()
        assert row is not None
        return row[0], row[1]
