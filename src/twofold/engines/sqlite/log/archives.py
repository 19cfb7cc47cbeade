"""The archives of a log on SQLite: what is recorded of them, and rows whose payloads are there."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from twofold.engines.sqlite.log.reader import SQL, read_rows, within
from twofold.engines.sqlite.transaction import Transaction
from twofold.errors import StorageError
from twofold.messages.stored_event import ARCHIVED, StoredEvent, archived_payload
from twofold.ports.archives import Archived
from twofold.ports.maintenance import StreamSize


def archives(reader: sqlite3.Connection) -> list[Archived]:
    """Return all archives."""
    return list(map(Archived._make, reader.execute(SQL["archives"])))


def begin_archive(transaction: Transaction) -> int:
    """Reserve the number of a further archive."""
    return int(transaction.connection.execute(SQL["begin_archive"]).fetchall()[0][0])


def record_archive(transaction: Transaction, archived: Archived, instead_of: Archived) -> bool:
    """Record what an archive is, if it is what it was found to be."""
    values = {**archived._asdict(), "found": instead_of.sha256, "seen": instead_of.changes}
    return transaction.connection.execute(SQL["record_archive"], values).rowcount > 0


def unsettle_archives(transaction: Transaction, stream_ids: Sequence[str]) -> list[int]:
    """Record of the archives of some streams that they may hold more than is archived in them."""
    connection = transaction.connection
    found = {row[0] for each in stream_ids for row in connection.execute(SQL["archives_of_stream"], (each,))}
    numbers = sorted({int(payload[len(ARCHIVED) : -1]) for payload in found})
    connection.executemany(SQL["unsettle_archive"], [(number,) for number in numbers])
    return numbers


def read_unarchived(reader: sqlite3.Connection, stream_id: str, after: int, limit: int) -> list[StoredEvent]:
    """Return events of a stream whose payloads are in the log."""
    return read_rows(reader, "read_unarchived", stream_id, within(after), within(limit))


def measure_unarchived(reader: sqlite3.Connection, stream_ids: Sequence[str]) -> list[StreamSize]:
    """Return how much of each of some streams is not archived."""
    sql = SQL["measure_unarchived"]
    found = (reader.execute(sql, {"stream": each}).fetchone() for each in dict.fromkeys(stream_ids))
    return [StreamSize(*each) for each in found if each[1]]


def archive_payloads(transaction: Transaction, archived: Archived, rows: Sequence[StoredEvent]) -> int:
    """Put the number of an archive in the place of payloads.

    Raises:
        StorageError: the archive is no longer what it was recorded to be.
    """
    connection = transaction.connection
    if not any(each.number == archived.number and each.sha256 == archived.sha256 for each in archives(connection)):
        raise StorageError(f"archive {archived.number} was changed by another process; archive again")
    connection.execute(SQL["let_events_be_archived"], (1,))
    payload = archived_payload(archived.number).decode()
    values = [(payload, row.position, row.checksum) for row in rows]
    count = connection.executemany(SQL["archive_payload"], values).rowcount
    connection.execute(SQL["let_events_be_archived"], (0,))
    return count


def read_archived(reader: sqlite3.Connection, number: int, positions: Sequence[int]) -> list[StoredEvent]:
    """Return those of the events at some positions that are archived under a number."""
    payload = archived_payload(number)
    return [row for row in read_rows(reader, "read_positions", str(list(positions))) if row.payload == payload]
