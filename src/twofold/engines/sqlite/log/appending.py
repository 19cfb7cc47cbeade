"""Appending on a connection of SQLite, within a transaction that holds the write lock."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from twofold.engines.sqlite.log.event_columns import INSERT, allotted
from twofold.engines.sqlite.log.reader import SQL, find_command, read_at, read_head, read_rows, read_version, within
from twofold.engines.sqlite.log.selection import END, positions
from twofold.engines.sqlite.transaction import LogMemory, Transaction
from twofold.messages.endings import ENDINGS, TOMBSTONED
from twofold.messages.stored_event import NewEvent, StoredEvent
from twofold.messages.stream import holds
from twofold.ports.event_log import (
    MAX_CONFLICTS,
    Append,
    Appended,
    Rejected,
    condition_rejection,
    ended_rejection,
    repeated,
    repeated_command,
    sealed_command,
    version_rejection,
)

INSERT_TAG, INSERT_COMMAND = SQL["insert_tag"], SQL["insert_command"]


def append_to(transaction: Transaction, append: Append) -> Appended | Rejected:
    """Judge one decision and store it, within a transaction that others share.

    The ids are looked up only if the append would fail otherwise, or failed already: then it may be a repeat.
    """
    if transaction.careful and (earlier := _repeated(transaction.connection, append)):
        return earlier
    if rejected := _violated(transaction, append):
        return _repeated(transaction.connection, append) or rejected
    memory = transaction.memory
    first = (head_of(transaction) if memory.head is None else memory.head) + 1
    memory.head = last = first + len(append.events) - 1
    rows, version = _allot(transaction.raw, memory, append.events, first)
    transaction.add(INSERT, rows)
    if tags := [(tag, position) for position, event in enumerate(append.events, first) for tag in event.tag_names]:
        transaction.add(INSERT_TAG, tags)
    if append.command:
        checksum = sealed_command(append.command, first, last)
        transaction.add(INSERT_COMMAND, [(*append.command, first, last, checksum)])
    result = append.command.result if append.command else b""
    return Appended(first, last, result=result, version=version)


def head_of(transaction: Transaction) -> int:
    """Return the head of the log, as the jobs of the transaction have moved it."""
    memory = transaction.memory
    if memory.head is None:
        memory.head = read_head(transaction.connection)
    return memory.head


def _violated(transaction: Transaction, append: Append) -> Rejected | None:
    if ended := _ended(transaction, append.events):
        [last] = read_rows(transaction.connection, "last_of_stream", ended)
        return ended_rejection(last)
    for stream_id, expected in append.expected:
        version = _version(transaction.raw, transaction.memory, stream_id)
        if not holds(expected, version):
            newer: list[StoredEvent] = []
            if isinstance(expected, int):
                newer = read_rows(transaction.connection, "read_stream", stream_id, within(expected), MAX_CONFLICTS)
            return version_rejection(stream_id, expected, version, newer)
    if condition := append.condition:
        after = within(condition.after or 0)
        found = positions(transaction.connection, condition.fail_if, after, END, MAX_CONFLICTS, backwards=False)
        if found or _last_tombstone(transaction) > after:
            return condition_rejection(condition, read_at(transaction.connection, found))
    return None


def _ended(transaction: Transaction, events: Sequence[NewEvent]) -> str:
    """Return a stream of some events that takes no more; empty: all do."""
    memory = transaction.memory
    versions = memory.versions
    for stream_id in {event.stream_id for event in events}:
        if stream_id and stream_id not in versions:
            _version(transaction.raw, memory, stream_id)
    if not memory.ended:
        return ""
    for event in events:
        ending = memory.ended.get(event.stream_id, "")
        if ending and (event.type != TOMBSTONED or ending == TOMBSTONED):
            return event.stream_id
    return ""


def _last_tombstone(transaction: Transaction) -> int:
    """Return the position of the last tombstone of a stream, 0 if there is none."""
    memory = transaction.memory
    if memory.last_tombstone is None:
        memory.last_tombstone = transaction.connection.execute(SQL["last_of_type"], (TOMBSTONED,)).fetchone()[0]
    return memory.last_tombstone or 0


def _version(connection: sqlite3.Connection, memory: LogMemory, stream_id: str) -> int:
    """Return the version of a stream; a stream whose rows are not inserted yet is remembered."""
    version = memory.versions.get(stream_id)
    if version is None:
        version, ending = read_version(connection, stream_id)
        memory.versions[stream_id] = version
        if ending:
            memory.ended[stream_id] = ending
    return version


def _repeated(connection: sqlite3.Connection, append: Append) -> Appended | None:
    if append.command and (known := find_command(connection, append.command.command_id)):
        return repeated_command(append.command, known)
    stored = [next(iter(read_rows(connection, "read_event", e.event_id)), None) for e in append.events]
    return repeated(append.events, stored)


def _allot(
    connection: sqlite3.Connection, memory: LogMemory, events: Sequence[NewEvent], first: int
) -> tuple[list[tuple[object, ...]], int]:
    """Return the events as rows of the table, and the version of the last."""
    now, version, versions = time.time_ns() // 1000, 0, memory.versions
    rows: list[tuple[object, ...]] = []
    for position, event in enumerate(events, first):
        version = 0
        if stream_id := event.stream_id:
            known = versions.get(stream_id)
            version = versions[stream_id] = (_version(connection, memory, stream_id) if known is None else known) + 1
        if event.type in ENDINGS:
            memory.last_tombstone = None  # is read again
            if stream_id:
                memory.ended[stream_id] = event.type
        rows.append(allotted(event, position, version, now))
    return rows, version
