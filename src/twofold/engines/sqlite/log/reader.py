"""Reading the log on a connection of SQLite: what readers and the writer have in common."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import starmap

import msgspec

from twofold.engines.sqlite.integrity import check_matches, check_range, check_stream
from twofold.engines.sqlite.log.event_columns import SELECTED
from twofold.engines.sqlite.log.selection import END, positions
from twofold.errors import HistoryChangedError
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import Mark
from twofold.messages.stored_event import StoredEvent
from twofold.ports.event_log import FoundCommand, Scan, found_command, scanned, scanned_from
from twofold.ports.sql import sql_blocks

_encode = msgspec.json.Encoder().encode

SQL = sql_blocks("twofold.engines.sqlite.log", columns=SELECTED)


def read(
    reader: sqlite3.Connection, query: EventQuery, after: int, before: int | None, limit: int, backwards: bool
) -> list[StoredEvent]:
    """Return matching events between two positions, in order or in reverse order."""
    low, high, limit = within(after), END if before is None else within(before), within(limit)
    if query.is_all:
        rows = read_rows(reader, "read_range_backwards" if backwards else "read_range", low, high, limit)
        check_range(rows, low, limit, backwards=backwards)
        return rows
    reader.execute("BEGIN")  # one snapshot for the positions and their rows
    try:
        found = positions(reader, query, low, high, limit, backwards=backwards)
        rows = read_at(reader, sorted(found))
    finally:
        if reader.in_transaction:  # some errors have ended it by themselves
            reader.execute("ROLLBACK")
    check_matches(rows, query, len(found))
    return rows[::-1] if backwards else rows


def scan(reader: sqlite3.Connection, query: EventQuery, after: Mark, end: int | None, limit: int) -> Scan:
    """Return matching events behind a mark, and how far the log has then been seen, of one snapshot."""
    low, last, limit = within(after.position), END - 1 if end is None else within(end), within(limit)
    if query.is_all and low:
        rows = read(reader, query, low - 1, max(last, low) + 1, min(limit, END - 1) + 1, backwards=False)
        if found := scanned_from(rows, after):
            return found
        raise HistoryChangedError(after, read_mark(reader, low), read_head(reader))
    reader.execute("BEGIN")  # one snapshot for the mark, the rows and the head
    try:
        mark = read_mark(reader, low)
        if mark is None or not after.agrees(mark):
            raise HistoryChangedError(after, mark, read_head(reader))
        rows = read_within(reader, query, low, last + 1, limit)
        reached = None if len(rows) == limit else reader.execute(SQL["last_mark"], (max(last, low),)).fetchone()
    finally:
        if reader.in_transaction:  # some errors have ended it by themselves
            reader.execute("ROLLBACK")
    return scanned(rows, limit, Mark(*reached) if reached else mark)


def read_mark(connection: sqlite3.Connection, position: int) -> Mark | None:
    """Return what stands at a position, None beyond the head."""
    found = connection.execute(SQL["mark"], (position,)) if position else connection.execute(SQL["mark_of_log"])
    row = found.fetchone()
    return Mark(*row) if row else None


def read_within(
    connection: sqlite3.Connection, query: EventQuery, after: int, before: int, limit: int
) -> list[StoredEvent]:
    """Return matching events between two positions, in order, within a transaction that is open already."""
    if query.is_all:
        rows = read_rows(connection, "read_range", within(after), within(before), within(limit))
        check_range(rows, within(after), within(limit), backwards=False)
        return rows
    found = positions(connection, query, within(after), within(before), within(limit), backwards=False)
    rows = read_at(connection, sorted(found))
    check_matches(rows, query, len(found))
    return rows


def read_stream(
    reader: sqlite3.Connection, stream_id: str, after: int, limit: int, without: Sequence[str] = ()
) -> list[StoredEvent]:
    """Return events of a stream behind a version, in order, perhaps without some types."""
    behind, most = within(after), within(limit)
    if without:
        types = _encode(without).decode()
        rows = read_rows(reader, "read_stream_without", stream_id, behind, types, behind, stream_id, most)
    else:
        rows = read_rows(reader, "read_stream", stream_id, behind, most)
    check_stream(rows, stream_id, behind, is_whole=not without)
    return rows


def read_short_stream(reader: sqlite3.Connection, stream_id: str, limit: int) -> list[StoredEvent] | None:
    """Return all events of a stream of fewer than `limit`, in order; None of a longer one."""
    most = within(limit)
    rows = read_rows(reader, "read_short_stream", stream_id, most, stream_id, most)
    if rows and rows[-1].version >= limit:
        return None
    check_stream(rows, stream_id, 0, is_whole=True)
    return rows


def read_at(connection: sqlite3.Connection, wanted: list[int]) -> list[StoredEvent]:
    """Return the rows at these positions, given in order."""
    if wanted and wanted[-1] - wanted[0] == len(wanted) - 1:
        return read_rows(connection, "read_range", wanted[0] - 1, wanted[-1] + 1, len(wanted))
    return read_rows(connection, "read_positions", str(wanted))


def read_rows(connection: sqlite3.Connection, name: str, *arguments: object) -> list[StoredEvent]:
    """Return the rows that a named statement selects."""
    return list(starmap(StoredEvent, connection.execute(SQL[name], arguments)))


def read_head(connection: sqlite3.Connection) -> int:
    """Return the highest position."""
    return int(connection.execute(SQL["head"]).fetchone()[0])


def read_version(connection: sqlite3.Connection, stream_id: str) -> tuple[int, str]:
    """Return the version of a stream, and the type of the event that says that it takes no more; empty: it does."""
    version, ending = connection.execute(SQL["version"], (stream_id, stream_id)).fetchone()
    return int(version), str(ending)


def within(number: int) -> int:
    """Return the nearest number that SQLite can compare with; what is beyond the head of the log stays beyond it."""
    return min(max(number, 0), END)


def find_command(connection: sqlite3.Connection, command_id: bytes) -> FoundCommand | None:
    """Return what is recorded of a command, None if it has not taken effect."""
    found = connection.execute(SQL["find_command"], (command_id,)).fetchall()
    return found_command(found) if found else None
