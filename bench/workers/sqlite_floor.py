"""The raw driver on SQLite: the same columns and indexes, the same durability, no framework."""

from __future__ import annotations

import itertools
import json
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal

from bench import workload
from bench.worker import median_ms, per_second, serve, write_for
from bench.workers import accounts_by_hand as by_hand

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
CREATE TABLE tags (tag TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (tag, position)) STRICT, WITHOUT ROWID;
"""
INSERT = "INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
PAYLOAD = json.dumps(workload.fields(1), separators=(",", ":"))
METADATA = json.dumps(workload.METADATA, separators=(",", ":"))

LOAD = "SELECT * FROM {table} WHERE account IN (SELECT value FROM json_each(?))"
UPSERT = """
INSERT INTO {table} VALUES (?, ?, ?, ?, ?) ON CONFLICT (account) DO UPDATE SET currency = excluded.currency,
    balance = excluded.balance, movements = excluded.movements, last_reference = excluded.last_reference
"""
CREATE_ACCOUNTS = """
CREATE TABLE {table} (account TEXT PRIMARY KEY, currency TEXT NOT NULL, balance TEXT NOT NULL,
    movements INTEGER NOT NULL, last_reference TEXT NOT NULL)
"""

Row = tuple[object, ...]


class SqliteFloor:
    """One connection: SQLite has one writer, however many ask."""

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        self._path, self._connection = path, connection
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

    def append_tagged(self, batch: int, seconds: float) -> float:
        run = f"tagged-{next(self._ids)}"
        (head,) = self._connection.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()

        def write(_: int, turn: int) -> int:
            first = head + turn * batch + 1
            tags = [(tag, position) for position in range(first, first + batch) for tag in workload.tags(position)]
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(INSERT, self._rows(run, turn * batch, batch))
            self._connection.executemany("INSERT INTO tags VALUES (?, ?)", tags)
            self._connection.execute("COMMIT")
            return batch

        return write_for(seconds, write)

    def fill(self, events: int) -> None:
        rows = [row for stream, count in workload.streams(events) for row in self._rows(stream, 0, count)]
        self._insert(rows)

    def load(self, events: int, times: int) -> float:
        stream = "long" if events == workload.BULK else "short-7"
        query = "SELECT * FROM events WHERE stream_id = ? ORDER BY version"
        return median_ms(times, lambda: self._connection.execute(query, (stream,)).fetchall())

    def load_decoded(self, events: int, times: int) -> float:
        stream = "long" if events == workload.BULK else "short-7"
        query = "SELECT * FROM events WHERE stream_id = ? ORDER BY version"

        def load() -> list[by_hand.ItemAdded]:
            return [by_hand.decode_item(row[7]) for row in self._connection.execute(query, (stream,))]

        return median_ms(times, load)

    def read_decoded(self, events: int) -> float:
        def read() -> int:
            return len([by_hand.decode_item(row[7]) for row in self._connection.execute("SELECT * FROM events")])

        return per_second(events, read)

    def read(self, events: int) -> float:
        return per_second(events, lambda: sum(1 for _ in self._connection.execute("SELECT * FROM events")))

    def fill_accounts(self, events: int) -> None:
        rows = self._rows("accounts", 0, events)
        movements = (json.dumps(workload.movement(account)) for account in workload.accounts(events))
        self._insert([(*row[:6], payload, *row[7:]) for row, payload in zip(rows, movements, strict=True)])

    def project(self, kind: str, workers: int) -> float | None:
        if kind == "slow":
            return None
        (head,) = self._connection.execute("SELECT max(position) FROM events").fetchone()
        events, table = workload.projected(head, kind), f"accounts_{next(self._ids)}"
        create = workload.create_accounts(table) if kind == "sql" else CREATE_ACCOUNTS.format(table=table)
        self._connection.execute(create)
        self._connection.execute("CREATE TABLE IF NOT EXISTS checkpoints (name TEXT PRIMARY KEY, position INTEGER)")
        take = self._take_by_sql if kind == "sql" else self._take

        def work(share: tuple[int, int]) -> None:
            with closing(_connected(self._path)) as connection:
                name, position = f"{table}-{share[0]}", head - events
                connection.execute("INSERT INTO checkpoints VALUES (?, 0)", (name,))
                query = "SELECT position, payload FROM events WHERE position > ? ORDER BY position LIMIT ?"
                while rows := connection.execute(query, (position, workload.PROJECTED)).fetchall():
                    position = rows[-1][0]
                    moved = by_hand.decoded((row[1] for row in rows), share)
                    connection.execute("BEGIN IMMEDIATE")
                    take(connection, table, moved)
                    connection.execute("UPDATE checkpoints SET position = ? WHERE name = ?", (position, name))
                    connection.execute("COMMIT")

        return float(events / by_hand.in_processes(workers, work))

    def rebuild(self) -> float | None:
        return self.project("keyed", 1)  # by hand, there is no more to it than to begin again

    def _take(self, connection: sqlite3.Connection, table: str, events: list[by_hand.Moved]) -> None:
        accounts = json.dumps(list({event.account for event in events}))
        loaded = connection.execute(LOAD.format(table=table), (accounts,))
        rows = {row[0]: (row[0], row[1], Decimal(row[2]), row[3], row[4]) for row in loaded}
        changed = [(row[0], row[1], str(row[2]), row[3], row[4]) for row in by_hand.fold(rows, events)]
        connection.executemany(UPSERT.format(table=table), changed)

    def _take_by_sql(self, connection: sqlite3.Connection, table: str, events: list[by_hand.Moved]) -> None:
        rows = [(each.account, each.currency, int(each.amount * 100), each.reference) for each in events]
        connection.executemany(workload.add_movement(table, "?"), rows)

    def size(self, events: int) -> float:
        (size,) = self._connection.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        return float(size[0]) / events


def _connected(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


@contextmanager
def opened(path: str) -> Iterator[SqliteFloor]:
    connection = _connected(path)
    connection.executescript(SCHEMA)
    yield SqliteFloor(path, connection)
    connection.close()


if __name__ == "__main__":
    serve(opened(sys.argv[1]))
