"""What operators do with a whole log on SQLite; see `PortableLog`."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import starmap
from operator import attrgetter
from pathlib import Path
from typing import cast

from twofold.engines.sqlite.log.appending import head_of
from twofold.engines.sqlite.log.event_columns import INSERT, as_inserted
from twofold.engines.sqlite.log.reader import SQL, read_head, read_rows, within
from twofold.engines.sqlite.transaction import Transaction
from twofold.engines.sqlite.writing import write_rows
from twofold.messages.stored_event import StoredEvent
from twofold.ports.checkpoints import SQL as SHARED
from twofold.ports.maintenance import (
    Fork,
    Inspection,
    PrunedCommands,
    Removal,
    StoredCheckpoint,
    StoredCommand,
    StreamSize,
    TagChange,
    as_intact,
    as_sealed,
    index_entries,
    refuse_gaps,
)


def restore(transaction: Transaction, rows: Sequence[StoredEvent], commands: Sequence[StoredCommand]) -> None:
    """Store rows of another log exactly as they are, and its commands."""
    connection, head = transaction.connection, head_of(transaction)
    refuse_gaps(rows, commands, head)
    write_rows(connection, INSERT, list(map(as_inserted, rows)))
    write_rows(connection, SQL["insert_tag"], index_entries(rows))
    write_rows(connection, SQL["insert_command"], list(map(as_sealed, commands)))
    transaction.memory.head = head + len(rows)
    transaction.memory.forget_streams()
    transaction.memory.last_tombstone = None


def find_events(reader: sqlite3.Connection, event_ids: Sequence[bytes]) -> list[StoredEvent]:
    """Return the events that have one of these ids, in the order of their positions."""
    rows = [row for each in dict.fromkeys(event_ids) for row in read_rows(reader, "read_event", each)]
    return sorted(rows, key=attrgetter("position"))


def read_mentioning(
    reader: sqlite3.Connection, text: str, after: int, before: int, limit: int, *, backwards: bool
) -> list[StoredEvent]:
    """Return events between two positions whose metadata holds a text."""
    name = "read_mentioning_backwards" if backwards else "read_mentioning"
    return read_rows(reader, name, text, within(after), within(before), within(limit))


def adopt(transaction: Transaction, log_id: bytes) -> None:
    """Take over the id of another log, unless this one holds events."""
    transaction.connection.execute(SQL["adopt"], (log_id,))


def fork(reader: sqlite3.Connection) -> Fork | None:
    """Return what the log is a fork of."""
    found = reader.execute(SQL["fork"]).fetchone()
    return Fork(*found) if found else None


def mark_fork(transaction: Transaction, fork: Fork) -> bool:
    """Record that the log is a fork, unless it holds events and is no such fork."""
    return transaction.connection.execute(SQL["mark_fork"], fork._asdict()).rowcount == 1


def read_commands(reader: sqlite3.Connection, after: bytes, limit: int) -> list[StoredCommand]:
    """Return commands whose id is greater than `after`, in the order of their ids."""
    return list(map(as_intact, reader.execute(SQL["read_commands"], (after, within(limit)))))


def prune_commands(
    transaction: Transaction, before: int, tag: str, after: bytes, limit: int, *, write: bool
) -> PrunedCommands | None:
    """Remove, or count, the old ones of a slice of the records of commands."""
    connection = transaction.connection
    values: dict[str, object] = {"before": before, "tag": tag, "after": after, "limit": within(limit)}
    [(values["end"],)] = connection.execute(SQL["end_of_commands"], values).fetchall()
    if values["end"] is None:
        return None
    [(found,)] = connection.execute(SQL["count_old_commands"], values).fetchall()
    if found and write:
        connection.execute(SQL["let_commands_be_pruned"], (1,))
        connection.execute(SQL["prune_commands"], values)
        connection.execute(SQL["let_commands_be_pruned"], (0,))
    return PrunedCommands(found, cast(bytes, values["end"]))


def tagged_types(reader: sqlite3.Connection) -> dict[str, str]:
    """Return what is recorded of the tags that all events of types carry."""
    return dict(reader.execute(SQL["tagged_types"]))


def record_tagged_types(transaction: Transaction, types: Mapping[str, str], seen: int | None) -> bool:
    """Record which tags all events of types carry, unless an event of them stands behind `seen`."""
    connection = transaction.connection
    if seen is not None:
        for name in types:
            if connection.execute(SQL["last_of_type"], (name,)).fetchone()[0] > seen:
                return False
    connection.executemany(SQL["record_tagged_type"], types.items())
    return True


def replace_tags(transaction: Transaction, changes: Sequence[TagChange]) -> None:
    """Replace the tags of events in their rows and in the index of tags."""
    connection = transaction.connection
    connection.execute(SQL["let_tags_be_added"], (1,))
    rows = [(tags.decode(), checksum, position, found) for position, found, tags, checksum in changes]
    connection.executemany(SQL["replace_tags"], rows)
    connection.executemany(SQL["index_tags"], [(change.position,) for change in changes])
    connection.execute(SQL["let_tags_be_added"], (0,))
    connection.execute(SQL["count_tag_change"])


def read_stream_ends(reader: sqlite3.Connection, after: str, limit: int) -> list[StoredEvent]:
    """Return the last events of the next streams."""
    values = {"after": after, "limit": within(limit)}
    return list(starmap(StoredEvent, reader.execute(SQL["read_stream_ends"], values)))


def find_stream_ends(reader: sqlite3.Connection, stream_ids: Sequence[str]) -> list[StoredEvent]:
    """Return the last events of some streams."""
    return [row for each in dict.fromkeys(stream_ids) for row in read_rows(reader, "last_of_stream", each)]


def measure_streams(reader: sqlite3.Connection, stream_ids: Sequence[str]) -> list[StreamSize]:
    """Return how much each of some streams holds."""
    found = ((each, *reader.execute(SQL["measure_stream"], (each,)).fetchone()) for each in dict.fromkeys(stream_ids))
    return [StreamSize(*each) for each in found if each[1]]


def remove_events(transaction: Transaction, removals: Sequence[Removal]) -> None:
    """Put in the place of events that they were removed, and take them out of the index of tags."""
    connection = transaction.connection
    connection.execute(SQL["let_events_be_removed"], (1,))
    for position, found, payload, tags, checksum, gone_tags in removals:
        row = (payload.decode(), tags.decode(), checksum, position, found)
        if connection.execute(SQL["remove_event"], row).rowcount:
            connection.executemany(SQL["remove_tag"], [(tag, position) for tag in gone_tags])
    connection.execute(SQL["let_events_be_removed"], (0,))
    connection.execute(SQL["count_tag_change"])


def check(reader: sqlite3.Connection) -> list[str]:
    """Return what is wrong with the file's pages and with the indexes of the log."""
    damages = [row[0] for row in reader.execute("PRAGMA integrity_check(10)") if row[0] != "ok"]
    if damages:
        return damages  # what stands below would only fail on it
    if found := reader.execute(SQL["untagged"]).fetchone():
        damages.append(f"event {found[0]} lacks an entry in the index of tags")
    expected, indexed = reader.execute(SQL["count_tags"]).fetchone()
    if indexed != expected:
        damages.append(f"the index of tags has {indexed} entries, the events have {expected} tags")
    if found := reader.execute(SQL["lost_command"]).fetchone():
        damages.append(f"a command took effect at position {found[0]}, which is beyond the end of the log")
    return damages


def inspect(reader: sqlite3.Connection, path: Path) -> Inspection:
    """Return what the database holds."""
    files = (path, path.with_name(path.name + "-wal"))
    return Inspection(
        read_head(reader),
        dict(reader.execute(SQL["count_types"])),
        reader.execute(SQL["count_commands"]).fetchone()[0],
        sum(file.stat().st_size for file in files if file.exists()),
        reader.execute(SQL["applied"]).fetchone()[0],
        list(map(StoredCheckpoint._make, reader.execute(SHARED["answering"]))),
    )
