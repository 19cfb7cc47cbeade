"""What operators do with a whole log on PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from twofold.engines.postgres.connection import Connection
from twofold.engines.postgres.database import PostgresDatabase
from twofold.engines.postgres.log.event_columns import COPY, as_copied
from twofold.engines.postgres.log.queries import query as named
from twofold.engines.postgres.log.reader import Reader
from twofold.engines.postgres.log.selection import END
from twofold.errors import StorageError, StorageUnavailableError
from twofold.messages.stored_event import StoredEvent
from twofold.ports.checkpoints import SQL as SHARED
from twofold.ports.maintenance import Inspection, StoredCheckpoint, StoredCommand, TagChange, refuse_gaps

_decode_tags = msgspec.json.Decoder(list[str]).decode

COPY_TAGS = b"COPY twofold_event_tags (tag, position) FROM STDIN"
COPY_COMMANDS = b"COPY twofold_commands (command_id, content_hash, result, first_position, last_position) FROM STDIN"


async def restore(database: PostgresDatabase, rows: Sequence[StoredEvent], commands: Sequence[StoredCommand]) -> None:
    """Do what `PortableLog.restore` promises."""
    patience = database.options.maintenance_timeout
    async with database.transaction(patience, patience) as connection:
        await connection.execute(named("lock_head"))
        [(head,)] = await (await connection.execute(named("head"))).fetchall()
        refuse_gaps(rows, commands, head)
        tags = [(tag, row.position) for row in rows for tag in dict.fromkeys(_decode_tags(row.tags))]
        await _copy(connection, COPY, list(map(as_copied, rows)))
        await _copy(connection, COPY_TAGS, tags)
        results = [(UUID(bytes=each[0]), each[1], each[2].decode(), *each[3:]) for each in commands]
        await _copy(connection, COPY_COMMANDS, results)
        await connection.execute(named("notify"))


async def adopt(database: PostgresDatabase, log_id: bytes) -> None:
    """Do what `PortableLog.adopt` promises."""
    patience = database.options.maintenance_timeout
    async with database.transaction(patience, patience) as connection:
        await connection.execute(named("lock_head"))
        await connection.execute(named("adopt"), {"log_id": UUID(bytes=log_id)})


async def read_commands(reader: Reader, after: bytes, limit: int) -> list[StoredCommand]:
    """Do what `PortableLog.read_commands` promises."""
    beyond = UUID(bytes=after) if after else None
    rows = await reader.rows(named("read_commands"), {"after": beyond, "limit": min(limit, END)})
    return list(map(StoredCommand._make, rows))


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


async def _copy(connection: Connection, command: bytes, rows: Sequence[tuple[object, ...]]) -> None:
    if rows:
        async with connection.cursor().copy(command) as copy:
            for row in rows:
                await copy.write_row(row)
