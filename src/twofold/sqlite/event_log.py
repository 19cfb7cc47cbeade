"""The event log on SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from functools import partial

from twofold.event_log import (
    MAX_CONFLICTS,
    Append,
    Appended,
    CommandRecord,
    NewEvent,
    Rejected,
    condition_rejection,
    repeated,
    repeated_command,
    version_rejection,
)
from twofold.event_query import EventQuery
from twofold.head import Head
from twofold.sqlite.database import SqliteDatabase, Transaction
from twofold.sqlite.matching import END, positions
from twofold.stored_event import StoredEvent, as_stored_event, seal
from twofold.streams import holds

POLL = 0.005
"""Seconds between two looks for appends of other processes, while somebody waits for them."""

COLUMNS = (
    "position, event_id, ifnull(stream_id, ''), ifnull(stream_type, ''), ifnull(version, 0), type, schema_version,"
    " CAST(payload AS BLOB), CAST(metadata AS BLOB), CAST(tags AS BLOB), recorded_at, checksum"
)
SELECT_RANGE = f"SELECT {COLUMNS} FROM twofold_events WHERE position > ? AND position < ? ORDER BY position"
SELECT_RANGE_BACKWARDS = f"{SELECT_RANGE} DESC"
SELECT_SOME = (
    f"SELECT {COLUMNS} FROM twofold_events WHERE position IN (SELECT value FROM json_each(?)) ORDER BY position"
)
SELECT_STREAM = f"SELECT {COLUMNS} FROM twofold_events WHERE stream_id = ? AND version > ? ORDER BY version LIMIT ?"
SELECT_BY_ID = f"SELECT {COLUMNS} FROM twofold_events WHERE event_id = ?"
SELECT_HEAD = "SELECT ifnull(max(position), 0) FROM twofold_events"
SELECT_VERSION = "SELECT ifnull(max(version), 0) FROM twofold_events WHERE stream_id = ?"
SELECT_COMMAND = (
    "SELECT command_id, content_hash, CAST(result AS BLOB), first_position, last_position, ifnull(version, 0)"
    " FROM twofold_commands JOIN twofold_events ON position = last_position WHERE command_id = ?"
)
INSERT_EVENT = "INSERT INTO twofold_events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_TAG = "INSERT INTO twofold_event_tags VALUES (?, ?)"
INSERT_COMMAND = "INSERT INTO twofold_commands VALUES (?, ?, CAST(? AS TEXT), ?, ?)"


class SqliteEventLog:
    """An `EventLog` in a SQLite file. Appends of one process share commits; several processes take turns."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._head = Head()
        self._follower: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """See `EventLog.open`."""
        await self._database.open()

    async def close(self) -> None:
        """See `EventLog.close`."""
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
            self._follower = None
        await self._database.close()

    async def append(self, append: Append) -> Appended | Rejected:
        """See `EventLog.append`."""
        outcome = await self._database.write(partial(append_to, append=append))
        if isinstance(outcome, Appended):
            self._head.advance(outcome.last)
        return outcome

    async def read(
        self, query: EventQuery, *, after: int = 0, before: int | None = None, limit: int, backwards: bool = False
    ) -> Sequence[StoredEvent]:
        """See `EventLog.read`."""
        return await self._database.read(
            partial(_read, query=query, after=after, before=before, limit=limit, backwards=backwards)
        )

    async def read_stream(self, stream_id: str, *, after: int = 0, limit: int) -> Sequence[StoredEvent]:
        """See `EventLog.read_stream`."""
        return await self._database.read(lambda reader: _rows(reader, SELECT_STREAM, (stream_id, after, limit)))

    async def head(self) -> int:
        """See `EventLog.head`."""
        head = await self._database.read(_head)
        self._head.advance(head)
        return head

    async def wait(self, after: int, timeout: float) -> int:
        """See `EventLog.wait`."""
        if self._head.position <= after and (self._follower is None or self._follower.done()):
            self._follower = asyncio.create_task(self._follow(), name="twofold-sqlite-follower")
        return await self._head.wait(after, timeout)

    async def find_command(self, command_id: bytes) -> tuple[CommandRecord, Appended] | None:
        """See `EventLog.find_command`."""
        return await self._database.read(partial(_find_command, command_id=command_id))

    async def _follow(self) -> None:
        """Notice other processes' appends: `PRAGMA data_version` costs microseconds, so it runs in the loop."""
        connection = self._database.connect()
        try:
            seen = None
            while True:
                version = connection.execute("PRAGMA data_version").fetchone()[0]
                if version != seen:
                    seen = version
                    self._head.advance(_head(connection))
                await asyncio.sleep(POLL)
                if not self._head.waiters:
                    return
        finally:
            connection.close()


def append_to(transaction: Transaction, append: Append) -> Appended | Rejected:
    """Judge one decision and store it, within a transaction that others share.

    The ids are looked up only if the append would fail otherwise, or failed already: then it may be a repeat.
    """
    connection = transaction.connection
    if transaction.careful and (earlier := _repeated(connection, append)):
        return earlier
    versions: dict[str, int] = {}
    if rejected := _violated(connection, append, versions):
        return _repeated(connection, append) or rejected
    if transaction.head is None:
        transaction.head = _head(connection)
    first = transaction.head + 1
    rows, version = _allot(connection, append.events, first, versions)
    if len(rows) == 1:
        connection.execute(INSERT_EVENT, rows[0])
    else:
        connection.executemany(INSERT_EVENT, rows)
    if tags := [(tag, position) for position, event in enumerate(append.events, first) for tag in event.tags]:
        connection.executemany(INSERT_TAG, tags)
    transaction.head = first + len(rows) - 1
    if append.command:
        connection.execute(INSERT_COMMAND, (*append.command, first, transaction.head))
    result = append.command.result if append.command else b""
    return Appended(first, transaction.head, result=result, version=version)


def _violated(connection: sqlite3.Connection, append: Append, versions: dict[str, int]) -> Rejected | None:
    for stream_id, expected in append.expected:
        version = versions[stream_id] = _version(connection, stream_id)
        if not holds(expected, version):
            exact = isinstance(expected, int)
            newer = _rows(connection, SELECT_STREAM, (stream_id, expected, MAX_CONFLICTS)) if exact else []
            return version_rejection(stream_id, expected, version, newer)
    if condition := append.condition:
        found = positions(connection, condition.fail_if, condition.after or 0, None, MAX_CONFLICTS, backwards=False)
        if found:
            return condition_rejection(condition, _at(connection, found))
    return None


def _repeated(connection: sqlite3.Connection, append: Append) -> Appended | None:
    if append.command and (known := _find_command(connection, append.command.command_id)):
        return repeated_command(append.command, known)
    stored = [next(iter(_rows(connection, SELECT_BY_ID, (e.event_id,))), None) for e in append.events]
    return repeated(append.events, stored)


def _allot(
    connection: sqlite3.Connection, events: Sequence[NewEvent], first: int, versions: dict[str, int]
) -> tuple[list[tuple[object, ...]], int]:
    """Return the events as rows of the table, and the version of the last."""
    now, version = time.time_ns() // 1000, 0
    rows: list[tuple[object, ...]] = []
    for position, event in enumerate(events, first):
        event_id, stream_id, stream_type, type_name, schema, payload, metadata, _, tags_json, content = event
        version = 0
        if stream_id:
            known = versions.get(stream_id)
            version = versions[stream_id] = (_version(connection, stream_id) if known is None else known) + 1
        rows.append((
            position, event_id, stream_id or None, stream_type or None, version or None, type_name, schema,
            payload.decode(), metadata.decode(), tags_json.decode(), now, seal(content, position, version, now),
        ))  # fmt: skip
    return rows, version


def _read(
    reader: sqlite3.Connection, query: EventQuery, after: int, before: int | None, limit: int, backwards: bool
) -> list[StoredEvent]:
    if query.is_all:
        sql = SELECT_RANGE_BACKWARDS if backwards else SELECT_RANGE
        return _rows(reader, f"{sql} LIMIT ?", (after, END if before is None else before, limit))
    reader.execute("BEGIN")  # one snapshot for the positions and their rows
    try:
        found = positions(reader, query, after, before, limit, backwards=backwards)
        rows = _at(reader, sorted(found))
    finally:
        reader.execute("ROLLBACK")
    return rows[::-1] if backwards else rows


def _at(connection: sqlite3.Connection, wanted: list[int]) -> list[StoredEvent]:
    if wanted and wanted[-1] - wanted[0] == len(wanted) - 1:
        return _rows(connection, SELECT_RANGE, (wanted[0] - 1, wanted[-1] + 1))
    return _rows(connection, SELECT_SOME, (str(wanted),))


def _rows(connection: sqlite3.Connection, sql: str, arguments: tuple[object, ...]) -> list[StoredEvent]:
    return list(map(as_stored_event, connection.execute(sql, arguments)))


def _head(connection: sqlite3.Connection) -> int:
    return int(connection.execute(SELECT_HEAD).fetchone()[0])


def _version(connection: sqlite3.Connection, stream_id: str) -> int:
    return int(connection.execute(SELECT_VERSION, (stream_id,)).fetchone()[0])


def _find_command(connection: sqlite3.Connection, command_id: bytes) -> tuple[CommandRecord, Appended] | None:
    row = connection.execute(SELECT_COMMAND, (command_id,)).fetchone()
    return row and (CommandRecord(*row[:3]), Appended(row[3], row[4], result=row[2], version=row[5]))
