"""The raw driver on PostgreSQL: the same columns and indexes, single-row commits, COPY for many rows, no framework."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from bench import workload
from bench.worker import median_ms, per_second, serve, write_for
from bench.workers import accounts_by_hand as by_hand

SCHEMA = """
CREATE TABLE events (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_id uuid NOT NULL UNIQUE, stream_id text NOT NULL,
    stream_type text NOT NULL, version bigint NOT NULL, type text NOT NULL, schema_version int NOT NULL,
    payload text NOT NULL, metadata text NOT NULL, tags text NOT NULL, recorded_at bigint NOT NULL,
    checksum bigint NOT NULL, UNIQUE (stream_id, version)
);
CREATE INDEX events_by_type ON events (type, position);
CREATE TABLE tags (tag text COLLATE "C" NOT NULL, position bigint NOT NULL, PRIMARY KEY (tag, position))
"""
COLUMNS = (
    "event_id, stream_id, stream_type, version, type, schema_version, payload, metadata, tags, recorded_at, checksum"
)
INSERT = f"INSERT INTO events ({COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
TYPES = ["uuid", "text", "text", "int8", "text", "int4", "text", "text", "text", "int8", "int8"]
PAYLOAD = json.dumps(workload.fields(1), separators=(",", ":"))
METADATA = json.dumps(workload.METADATA, separators=(",", ":"))

LOAD = "SELECT account, currency, balance, movements, last_reference FROM {table} WHERE account = ANY (%s)"
UPSERT = """
WITH saved AS (UPDATE checkpoints SET position = %s WHERE name = %s)
INSERT INTO {table} SELECT * FROM unnest (%s::text[], %s::text[], %s::numeric[], %s::bigint[], %s::text[])
ON CONFLICT (account) DO UPDATE SET currency = excluded.currency, balance = excluded.balance,
    movements = excluded.movements, last_reference = excluded.last_reference
"""
CREATE_ACCOUNTS = """
CREATE TABLE {table} (account text PRIMARY KEY, currency text NOT NULL, balance numeric NOT NULL,
    movements bigint NOT NULL, last_reference text NOT NULL)
"""

Row = tuple[object, ...]


class PostgresFloor:
    """One connection per writer, each with its own commits."""

    def __init__(self, url: str, connection: psycopg.Connection) -> None:
        self._url, self._connection = url, connection
        self._ids = itertools.count(time.time_ns())

    def _rows(self, stream: str, after: int, count: int) -> list[Row]:
        now = time.time_ns() // 1000
        return [
            (f"{next(self._ids):032x}", stream, workload.STREAM_TYPE, after + n + 1, "ItemAdded", 1, PAYLOAD, METADATA,
             "[]", now, 0)
            for n in range(count)
        ]  # fmt: skip

    def _insert(self, rows: list[Row]) -> int:
        if len(rows) == 1:
            self._connection.execute(INSERT, rows[0])
        elif len(rows) < workload.BULK:
            with self._connection.transaction(), self._connection.cursor() as cursor:
                cursor.executemany(INSERT, rows)  # in a pipeline
        else:
            self._copy(rows)
        return len(rows)

    def _copy(self, rows: list[Row]) -> None:
        with (
            self._connection.cursor() as cursor,
            cursor.copy(f"COPY events ({COLUMNS}) FROM STDIN (FORMAT text)") as copy,
        ):
            for row in rows:
                copy.write_row(row)

    def append(self, writers: int, batch: int, seconds: float) -> float:
        run = f"{writers}x{batch}-{next(self._ids)}"
        if writers > 1:
            return asyncio.run(self._append(run, writers, batch, seconds))
        return write_for(seconds, lambda _, turn: self._insert(self._rows(run, turn * batch, batch)))

    def append_tagged(self, batch: int, seconds: float) -> float:
        run = f"tagged-{next(self._ids)}"
        found = self._connection.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()
        head = int(found[0]) if found else 0

        def write(_: int, turn: int) -> int:
            first = head + turn * batch + 1
            rows = self._rows(run, turn * batch, batch)
            with self._connection.transaction(), self._connection.cursor() as cursor:
                with cursor.copy(f"COPY events (position, {COLUMNS}) FROM STDIN (FORMAT text)") as copy:
                    for position, row in enumerate(rows, first):
                        copy.write_row((position, *row))
                with cursor.copy("COPY tags FROM STDIN (FORMAT text)") as copy:
                    for position in range(first, first + batch):
                        for tag in workload.tags(position):
                            copy.write_row((tag, position))
            return batch

        return write_for(seconds, write)

    async def _append(self, run: str, writers: int, batch: int, seconds: float) -> float:
        async def keep_writing(connection: psycopg.AsyncConnection, stream: str) -> int:
            version = 0
            while time.perf_counter() < deadline:
                rows = self._rows(stream, version, batch)
                if batch == 1:
                    await connection.execute(INSERT, rows[0])
                else:
                    async with connection.transaction(), connection.cursor() as cursor:
                        await cursor.executemany(INSERT, rows)
                version += batch
            return version

        connections = [await psycopg.AsyncConnection.connect(self._url, autocommit=True) for _ in range(writers)]
        start = time.perf_counter()
        deadline = start + seconds
        written = sum(await asyncio.gather(*(keep_writing(c, f"{run}-{n}") for n, c in enumerate(connections))))
        taken = time.perf_counter() - start
        for connection in connections:
            await connection.close()
        return written / taken

    def fill(self, events: int) -> None:
        self._copy([row for stream, count in workload.streams(events) for row in self._rows(stream, 0, count)])
        self._connection.execute("VACUUM ANALYZE events")

    def load(self, events: int, times: int) -> float:
        stream = "long" if events == workload.BULK else "short-7"
        query = "SELECT * FROM events WHERE stream_id = %s ORDER BY version"
        return median_ms(times, lambda: self._connection.execute(query, (stream,), binary=True).fetchall())

    def load_decoded(self, events: int, times: int) -> float:
        stream = "long" if events == workload.BULK else "short-7"
        query = "SELECT * FROM events WHERE stream_id = %s ORDER BY version"

        def load() -> list[by_hand.ItemAdded]:
            rows = self._connection.execute(query, (stream,), binary=True).fetchall()
            return [by_hand.decode_item(row[7]) for row in rows]

        return median_ms(times, load)

    def read_decoded(self, events: int) -> float:
        def read() -> int:
            rows = self._connection.execute("SELECT * FROM events", binary=True).fetchall()
            return len([by_hand.decode_item(row[7]) for row in rows])

        return per_second(events, read)

    def read(self, events: int) -> float:
        return per_second(events, lambda: len(self._connection.execute("SELECT * FROM events", binary=True).fetchall()))

    def fill_accounts(self, events: int) -> None:
        rows = self._rows("accounts", 0, events)
        movements = (json.dumps(workload.movement(account)) for account in workload.accounts(events))
        self._copy([(*row[:6], payload, *row[7:]) for row, payload in zip(rows, movements, strict=True)])
        self._connection.execute("VACUUM ANALYZE events")

    def project(self, kind: str, workers: int) -> float | None:
        if kind == "slow":
            return None
        row = self._connection.execute("SELECT max(position) FROM events").fetchone()
        head = int(row[0]) if row else 0
        events, table = workload.projected(head, kind), f"accounts_{next(self._ids)}"
        create = workload.create_accounts(table) if kind == "sql" else CREATE_ACCOUNTS.format(table=table)
        self._connection.execute(create)
        self._connection.execute("CREATE TABLE IF NOT EXISTS checkpoints (name text PRIMARY KEY, position bigint)")
        take = self._take_by_sql if kind == "sql" else self._take

        def work(share: tuple[int, int]) -> None:
            with psycopg.connect(self._url, autocommit=True) as connection:
                name, position = f"{table}-{share[0]}", head - events
                connection.execute("INSERT INTO checkpoints VALUES (%s, 0)", (name,))
                query = "SELECT position, payload FROM events WHERE position > %s ORDER BY position LIMIT %s"
                while rows := connection.execute(query, (position, workload.PROJECTED), binary=True).fetchall():
                    position = rows[-1][0]
                    take(connection, table, name, position, by_hand.decoded((row[1] for row in rows), share))

        return events / by_hand.in_processes(workers, work)

    def rebuild(self) -> float | None:
        return self.project("keyed", 1)  # by hand, there is no more to it than to begin again

    def _take(
        self, connection: psycopg.Connection, table: str, name: str, position: int, events: list[by_hand.Moved]
    ) -> None:
        accounts = list({event.account for event in events})
        loaded = connection.execute(LOAD.format(table=table), (accounts,), binary=True).fetchall()
        rows = by_hand.fold({row[0]: row for row in loaded}, events)
        columns = [list(column) for column in zip(*rows, strict=True)]
        connection.execute(UPSERT.format(table=table), (position, name, *columns))

    def _take_by_sql(
        self, connection: psycopg.Connection, table: str, name: str, position: int, events: list[by_hand.Moved]
    ) -> None:
        with connection.transaction():
            for each in events:
                values = (each.account, each.currency, int(each.amount * 100), each.reference)
                connection.execute(workload.add_movement(table, "%s"), values)
            connection.execute("UPDATE checkpoints SET position = %s WHERE name = %s", (position, name))

    def size(self, events: int) -> float:
        row = self._connection.execute("SELECT pg_total_relation_size('events')").fetchone()
        return float(row[0]) / events if row else 0.0


@contextmanager
def opened(url: str) -> Iterator[PostgresFloor]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCHEMA)
        yield PostgresFloor(url, connection)


if __name__ == "__main__":
    serve(opened(sys.argv[1]))
