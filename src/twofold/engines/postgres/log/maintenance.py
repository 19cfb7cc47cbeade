"""What operators do with a whole log on PostgreSQL; see `PortableLog`."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from twofold.engines.postgres.database import Connection, PostgresDatabase
from twofold.engines.postgres.log.reader import Reader
from twofold.engines.postgres.log.selection import END
from twofold.engines.postgres.queries import query as named
from twofold.errors import StorageError, StorageUnavailableError
from twofold.messages.stored_event import StoredEvent
from twofold.ports.maintenance import Inspection, StoredCheckpoint, StoredCommand, refuse_gaps

_decode_tags = msgspec.json.Decoder(list[str]).decode

COPY_EVENTS = b"COPY twofold_events FROM STDIN"
COPY_TAGS = b"COPY twofold_event_tags (tag, position) FROM STDIN"
COPY_COMMANDS = b"COPY twofold_commands (command_id, content_hash, result, first_position, last_position) FROM STDIN"


async def restore(database: PostgresDatabase, rows: Sequence[StoredEvent], commands: Sequence[StoredCommand]) -> None:
    """See `PortableLog.restore`."""
    async with database.connection() as connection, connection.transaction():
        await connection.execute(named("lock_head"))
        [(head,)] = await (await connection.execute(named("head"))).fetchall()
        refuse_gaps(rows, commands, head)
        tags = [(tag, row.position) for row in rows for tag in dict.fromkeys(_decode_tags(row.tags))]
        await _copy(connection, COPY_EVENTS, [_as_copied(row) for row in rows])
        await _copy(connection, COPY_TAGS, tags)
        results = [(UUID(bytes=each[0]), each[1], each[2].decode(), *each[3:]) for each in commands]
        await _copy(connection, COPY_COMMANDS, results)
        await connection.execute(named("notify"), {"head": head + len(rows)})


async def adopt(database: PostgresDatabase, log_id: bytes) -> None:
    """See `PortableLog.adopt`."""
    async with database.connection() as connection, connection.transaction():
        await connection.execute(named("lock_head"))
        await connection.execute(named("adopt"), {"log_id": UUID(bytes=log_id)})


async def read_commands(reader: Reader, after: bytes, limit: int) -> list[StoredCommand]:
    """See `PortableLog.read_commands`."""
    beyond = UUID(bytes=after) if after else None
    rows = await reader.rows(named("read_commands"), {"after": beyond, "limit": min(limit, END)})
    return list(map(StoredCommand._make, rows))


async def check(reader: Reader) -> list[str]:
    """See `PortableLog.check`. Indexes are compared with their tables where the extension amcheck is installed."""
    damages = [f"the index {name} is not valid; REINDEX it" for (name,) in await reader.rows(named("invalid"), {})]
    for (position,) in await reader.rows(named("untagged"), {}):
        damages.append(f"event {position} lacks an entry in the index of tags")
    [(expected, indexed)] = await reader.rows(named("count_tags"), {})
    if indexed != expected:
        damages.append(f"the index of tags has {indexed} entries, the events have {expected} tags")
    for (position,) in await reader.rows(named("lost_command"), {}):
        damages.append(f"a command took effect at position {position}, which is beyond the end of the log")
    if await reader.rows(named("has_amcheck"), {}):
        damages += await _check_indexes(reader)
    return damages


async def inspect(reader: Reader) -> Inspection:
    """See `PortableLog.inspect`."""
    [(head, commands, size, migration)] = await reader.rows(named("inspect"), {})
    types = await reader.rows(named("count_types"), {})
    checkpoints = await reader.rows(named("checkpoints"), {})
    return Inspection(
        head, dict(types), commands, size, migration,
        list(map(StoredCheckpoint._make, checkpoints)),
    )  # fmt: skip


async def _check_indexes(reader: Reader) -> list[str]:
    try:
        await reader.rows(named("check_indexes"), {})
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


def _as_copied(row: StoredEvent) -> tuple[object, ...]:
    return (
        row.position, UUID(bytes=row.event_id), row.stream_id, row.stream_type, row.version, row.type,
        row.schema_version, row.payload.decode(), row.metadata.decode(), row.tags.decode(), row.recorded_at,
        row.checksum,
    )  # fmt: skip
