"""What operators do with a whole log on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from twofold.engines.postgres.connection import Connection
from twofold.engines.postgres.database import PostgresDatabase
from twofold.engines.postgres.log.event_columns import COPY, as_copied
from twofold.engines.postgres.log.queries import query as named
from twofold.engines.postgres.log.reader import Reader
from twofold.engines.postgres.log.selection import END as LAST
from twofold.engines.postgres.wire.arrays import int8_bytes
from twofold.engines.postgres.wire.copy_rows import END, SIGNATURE, binary_rows
from twofold.errors import StorageError, StorageUnavailableError
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

T = TypeVar("T")

COPY_TAGS = b"COPY twofold_event_tags (tag, position) FROM STDIN (FORMAT binary)"
COPY_COMMANDS = b"""
    COPY twofold_commands (command_id, content_hash, result, name, first_position, last_position, record_checksum)
    FROM STDIN (FORMAT binary)
"""


async def restore(database: PostgresDatabase, rows: Sequence[StoredEvent], commands: Sequence[StoredCommand]) -> None:
    """Do what `PortableLog.restore` promises."""
    patience = database.options.maintenance_timeout
    async with database.transaction(patience, patience) as connection:
        await connection.execute(named("lock_head"))
        [(head,)] = await (await connection.execute(named("head"))).fetchall()
        refuse_gaps(rows, commands, head)
        part = database.options.copied_at_once
        await _copy(connection, COPY, as_copied, rows, part)
        await _copy(connection, COPY_TAGS, _tags_as_copied, index_entries(rows), part)
        await _copy(connection, COPY_COMMANDS, _commands_as_copied, commands, part)
        await connection.execute(named("notify"))


async def adopt(database: PostgresDatabase, log_id: bytes) -> None:
    """Do what `PortableLog.adopt` promises."""
    patience = database.options.maintenance_timeout
    async with database.transaction(patience, patience) as connection:
        await connection.execute(named("lock_head"))
        await connection.execute(named("adopt"), {"log_id": UUID(bytes=log_id)})


async def fork(reader: Reader) -> Fork | None:
    """Do what `PortableLog.fork` promises."""
    found = await reader.rows(named("fork"), {})
    return Fork(*found[0]) if found else None


async def mark_fork(database: PostgresDatabase, fork: Fork) -> bool:
    """Do what `PortableLog.mark_fork` promises."""
    patience = database.options.maintenance_timeout
    async with database.transaction(patience, patience) as connection:
        await connection.execute(named("lock_head"))
        values = {"log": UUID(bytes=fork.log), "position": fork.position}
        return (await connection.execute(named("mark_fork"), values)).rowcount == 1


async def read_commands(reader: Reader, after: bytes, limit: int) -> list[StoredCommand]:
    """Do what `PortableLog.read_commands` promises."""
    beyond = UUID(bytes=after) if after else None
    rows = await reader.rows(named("read_commands"), {"after": beyond, "limit": min(limit, LAST)})
    return list(map(as_intact, rows))


async def prune_commands(
    database: PostgresDatabase, before: int, tag: str, after: bytes, limit: int, *, write: bool
) -> PrunedCommands | None:
    """Do what `PortableLog.prune_commands` promises."""
    patience = database.options.maintenance_timeout
    values: dict[str, Any] = {
        "before": before, "tag": tag, "after": UUID(bytes=after) if after else None, "limit": min(limit, LAST)
    }  # fmt: skip
    async with database.transaction(patience, patience) as connection:
        if not (end := await (await connection.execute(named("end_of_commands"), values)).fetchall()):
            return None
        [(values["end"],)] = end
        [(found,)] = await (await connection.execute(named("count_old_commands"), values)).fetchall()
        if found and write:
            await connection.execute(named("let_commands_be_pruned"))
            await connection.execute(named("prune_commands"), values)
    return PrunedCommands(found, values["end"].bytes)


async def tagged_types(reader: Reader) -> dict[str, str]:
    """Do what `PortableLog.tagged_types` promises."""
    return dict(await reader.rows(named("tagged_types"), {}))


async def record_tagged_types(database: PostgresDatabase, types: Mapping[str, str], seen: int | None) -> bool:
    """Do what `PortableLog.record_tagged_types` promises."""
    names, patience = list(types), database.options.maintenance_timeout
    async with database.transaction(patience, patience) as connection:
        if seen is not None:
            await connection.execute(named("lock_head"))
            [(last,)] = await (await connection.execute(named("last_of_types"), {"types": names})).fetchall()
            if last > seen:
                return False
        await connection.execute(named("record_tagged_types"), {"types": names, "tags": list(types.values())})
    return True


async def replace_tags(database: PostgresDatabase, changes: Sequence[TagChange]) -> None:
    """Do what `PortableLog.replace_tags` promises."""
    patience = database.options.maintenance_timeout
    positions, found, tags, checksums = zip(*changes, strict=True)
    rows = {
        "positions": list(positions), "found": list(found), "tags": [each.decode() for each in tags],
        "checksums": list(checksums),
    }  # fmt: skip
    async with database.transaction(patience, patience) as connection:
        await connection.execute(named("let_tags_be_added"))
        await connection.execute(named("replace_tags"), rows)
        await connection.execute(named("index_tags"), {"positions": rows["positions"]})
        await connection.execute(named("count_tag_change"))


async def measure_streams(reader: Reader, stream_ids: Sequence[str], limit: float) -> list[StreamSize]:
    """Do what `PortableLog.measure_streams` promises."""
    found = await reader.rows(named("measure_streams"), {"streams": list(stream_ids)}, limit=limit)
    return [StreamSize(name, int(events), int(size)) for name, events, size in found]


async def remove_events(database: PostgresDatabase, removals: Sequence[Removal]) -> None:
    """Do what `PortableLog.remove_events` promises."""
    patience = database.options.maintenance_timeout
    gone = [(tag, each.position) for each in removals for tag in each.gone_tags]
    rows = {
        "positions": [each.position for each in removals], "found": [each.found for each in removals],
        "payloads": [each.payload.decode() for each in removals], "tags": [each.tags.decode() for each in removals],
        "checksums": [each.checksum for each in removals],
        "gone_tags": [tag for tag, _ in gone], "gone_positions": [position for _, position in gone],
    }  # fmt: skip
    async with database.transaction(patience, patience) as connection:
        await connection.execute(named("let_events_be_removed"))
        await connection.execute(named("remove_events"), rows)
        await connection.execute(named("count_tag_change"))


async def check(reader: Reader, limit: float) -> list[str]:
    """Do what `PortableLog.check` promises. Where amcheck is installed, indexes are compared with their tables."""

    async def rows(name: str) -> list[tuple[Any, ...]]:
        return await reader.rows(named(name), {}, limit=limit)

    damages = [f"the index {name} is not valid; REINDEX it" for (name,) in await rows("invalid")]
    for (position,) in await rows("untagged"):
        damages.append(f"event {position} lacks an entry in the index of tags")
    [(expected, indexed)] = await rows("count_tags")
    if indexed != expected:
        damages.append(f"the index of tags has {indexed} entries, the events have {expected} tags")
    for (position,) in await rows("lost_command"):
        damages.append(f"a command took effect at position {position}, which is beyond the end of the log")
    if await rows("has_amcheck"):
        damages += await _check_indexes(reader, limit)
    return damages


async def inspect(reader: Reader, limit: float) -> Inspection:
    """Do what `PortableLog.inspect` promises."""
    [(head, commands, size, migration)] = await reader.rows(named("inspect"), {}, limit=limit)
    types = await reader.rows(named("count_types"), {}, limit=limit)
    checkpoints = await reader.rows(SHARED["answering"].encode(), {})
    return Inspection(
        head, dict(types), commands, size, migration,
        list(map(StoredCheckpoint._make, checkpoints)),
    )  # fmt: skip


async def _check_indexes(reader: Reader, limit: float) -> list[str]:
    try:
        await reader.rows(named("check_indexes"), {}, limit=limit)
    except StorageUnavailableError:
        raise
    except StorageError as error:
        return [str(error)]
    return []


async def _copy(
    connection: Connection, command: bytes, encode: Callable[[Sequence[T]], bytes], rows: Sequence[T], part: int
) -> None:
    """Send rows, part by part, so that the server works on one while the next is being encoded."""
    if rows:
        async with connection.cursor().copy(command) as copy:
            await copy.write(SIGNATURE)
            for start in range(0, len(rows), part):
                await copy.write(encode(rows[start : start + part]))
            await copy.write(END)


def _tags_as_copied(entries: Sequence[tuple[str, int]]) -> bytes:
    tags, positions = zip(*entries, strict=True)
    return binary_rows([list(map(str.encode, tags)), _bigints(positions)])


def _commands_as_copied(commands: Sequence[StoredCommand]) -> bytes:
    ids, hashes, results, names, firsts, lasts, checksums = zip(*map(as_sealed, commands), strict=True)
    encoded = list(map(str.encode, names))
    return binary_rows([ids, hashes, results, encoded, _bigints(firsts), _bigints(lasts), _bigints(checksums)])


def _bigints(values: Sequence[int]) -> list[bytes]:
    return list(map(int8_bytes, values))
