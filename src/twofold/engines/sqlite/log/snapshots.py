"""Stored snapshots on SQLite; see `SnapshotLog`."""

from __future__ import annotations

import sqlite3

from twofold.engines.sqlite.log.reader import SQL, within
from twofold.engines.sqlite.transaction import Transaction
from twofold.ports.snapshots import FoundSnapshot, Snapshot


def find(reader: sqlite3.Connection, fold: str, subject: str) -> FoundSnapshot:
    """Return what is stored under a key, and how often tags were added."""
    reader.execute("BEGIN")  # one snapshot for both
    try:
        row = reader.execute(SQL["find_snapshot"], (fold, subject)).fetchone()
        times = tag_changes(reader)
    finally:
        if reader.in_transaction:  # some errors have ended it by themselves
            reader.execute("ROLLBACK")
    return FoundSnapshot(Snapshot._make(row) if row else None, times)


def tag_changes(reader: sqlite3.Connection) -> int:
    """Return how often tags were added."""
    [times] = reader.execute(SQL["tag_changes"]).fetchone()
    return int(times)


def save(transaction: Transaction, snapshot: Snapshot, instead_of: int | None) -> bool:
    """Store a snapshot, unless one of its position or a later one is there."""
    return transaction.connection.execute(SQL["save_snapshot"], (*snapshot, instead_of)).rowcount > 0


def read(reader: sqlite3.Connection, after: tuple[str, str], limit: int) -> list[Snapshot]:
    """Return snapshots behind a key, in the order of their keys."""
    return list(map(Snapshot._make, reader.execute(SQL["read_snapshots"], (*after, within(limit)))))


def delete(transaction: Transaction, fold: str | None, subject: str | None) -> int:
    """Delete the snapshots of a fold and of a subject."""
    return transaction.connection.execute(SQL["delete_snapshots"], (fold, subject)).rowcount
