"""The raw driver on SQLite: the same columns and indexes, the same durability, no framework."""

from __future__ import annotations

import itertools
import json
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench import workload
from bench.worker import median_ms, per_second, serve, write_for

SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE events (
    position INTEGER PRIMARY KEY, event_id BLOB NOT NULL UNIQUE, stream_id TEXT NOT NULL, stream_type TEXT NOT NULL,
    version INTEGER NOT NULL, type TEXT NOT NULL, schema_version INTEGER NOT NULL, payload TEXT NOT NULL,
    metadata TEXT NOT NULL, tags TEXT NOT NULL, recorded_at INTEGER NOT NULL, checksum INTEGER NOT NULL,
    UNIQUE (stream_id, version)
) STRICT;
CREATE INDEX events_by_type ON events (type, position);
"""
INSERT = "INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
PAYLOAD = json.dumps(workload.fields(1), separators=(",", ":"))
METADATA = json.dumps(workload.METADATA, separators=(",", ":"))

Row = tuple[object, ...]


class SqliteFloor:
    """One connection: SQLite has one writer, however many ask."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._ids = itertools.count(time.time_ns())

    def _rows(self, stream: str, after: int, count: int) -> list[Row]:
        now = time.time_ns() // 1000
        return [
            (next(self._ids).to_bytes(16), stream, workload.STREAM_TYPE, after + n + 1, "ItemAdded", 1, PAYLOAD,
             METADATA, "[]", now, 0)
            for n in range(count)
        ]  # fmt: skip

    def _insert(self, rows: list[Row]) -> int:
        self._connection.execute("BEGIN IMMEDIATE")
        if len(rows) == 1:
            self._connection.execute(INSERT, rows[0])
        else:
            self._connection.executemany(INSERT, rows)
        self._connection.execute("COMMIT")
        return len(rows)

    def append(self, writers: int, batch: int, seconds: float) -> float:
        run = f"{writers}x{batch}-{next(self._ids)}"
        return write_for(seconds, lambda _, turn: self._insert(self._rows(run, turn * batch, batch)))

    def fill(self, events: int) -> None:
        rows = [row for stream, count in workload.streams(events) for row in self._rows(stream, 0, count)]
        self._insert(rows)

    def load(self, events: int, times: int) -> float:
        stream = "long" if events == workload.BULK else "short-7"
        query = "SELECT * FROM events WHERE stream_id = ? ORDER BY version"
        return median_ms(times, lambda: self._connection.execute(query, (stream,)).fetchall())

    def read(self, events: int) -> float:
        return per_second(events, lambda: sum(1 for _ in self._connection.execute("SELECT * FROM events")))

    def size(self, events: int) -> float:
        (size,) = self._connection.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        return float(size[0]) / events


@contextmanager
def opened(path: str) -> Iterator[SqliteFloor]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(SCHEMA)
    yield SqliteFloor(connection)
    connection.close()


if __name__ == "__main__":
    serve(opened(sys.argv[1]))
