"""A log of a million events, made by SQLite itself: what is measured on it is the plan, not the content."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from twofold.engines.sqlite import SqliteDatabase

EVENTS = 1_000_000
PER_STREAM, TYPES, CUSTOMERS, KINDS, RARE = 10, 20, 50_000, 4, 100_000

NUMBERS = f"WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {EVENTS})"
INSERT_EVENTS = f"""
{NUMBERS}
INSERT INTO twofold_events (
    position, event_id, stream_id, stream_type, version, type, schema_version, payload, metadata, tags, recorded_at,
    checksum)
SELECT n, CAST(printf('%016d', n) AS BLOB), 'Note-' || ((n - 1) / {PER_STREAM}), 'Note',
    (n - 1) % {PER_STREAM} + 1, 'Type' || (n % {TYPES}), 1, '{{"text":"some text"}}', '{{}}',
    '["customer:' || (n % {CUSTOMERS}) || '","kind:' || (n % {KINDS}) || iif(n % {RARE}, '"]', '","rare:x"]'), 1, 1
FROM numbers
"""
INSERT_TAGS = f"""
{NUMBERS}
INSERT INTO twofold_event_tags SELECT tag, position FROM (
    SELECT 'customer:' || (n % {CUSTOMERS}) AS tag, n AS position FROM numbers
    UNION ALL SELECT 'kind:' || (n % {KINDS}), n FROM numbers
    UNION ALL SELECT 'rare:x', n FROM numbers WHERE n % {RARE} = 0
) ORDER BY tag, position
"""


def make_large_log(path: Path) -> None:
    """Write the file; nothing of it needs to survive a crash."""
    asyncio.run(_make_empty_log(path))
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA cache_size = -200000")
        (by_type,) = connection.execute(
            "SELECT sql FROM sqlite_master WHERE name = 'twofold_events_by_type'"
        ).fetchone()
        connection.execute("DROP INDEX twofold_events_by_type")  # one sort is quicker than a million insertions
        connection.execute(INSERT_EVENTS)
        connection.execute(by_type)
        connection.execute(INSERT_TAGS)
    connection.close()


async def _make_empty_log(path: Path) -> None:
    database = SqliteDatabase(path)
    await database.open()
    await database.close()
