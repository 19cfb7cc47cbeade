"""The archives of a log on PostgreSQL: what is recorded of them, and rows whose payloads are there."""

from __future__ import annotations

from collections.abc import Sequence

from twofold.engines.postgres.database import PostgresDatabase
from twofold.engines.postgres.log.queries import query as named
from twofold.engines.postgres.log.reader import Reader
from twofold.errors import StorageError
from twofold.messages.stored_event import ARCHIVED, StoredEvent, archived_payload
from twofold.ports.archives import Archived
from twofold.ports.maintenance import StreamSize


async def archives(reader: Reader) -> list[Archived]:
    """Do what `ArchivableLog.archives` promises."""
    return list(map(Archived._make, await reader.rows(named("archives"), {})))


async def begin_archive(database: PostgresDatabase) -> int:
    """Do what `ArchivableLog.begin_archive` promises."""
    patience = database.options.maintenance_timeout
    async with database.transaction(patience, patience) as connection:
        [(number,)] = await (await connection.execute(named("begin_archive"))).fetchall()
    return int(number)


async def record_archive(database: PostgresDatabase, archived: Archived, instead_of: Archived) -> bool:
    """Do what `ArchivableLog.record_archive` promises."""
    patience = database.options.maintenance_timeout
    values = {**archived._asdict(), "found": instead_of.sha256, "seen": instead_of.changes}
    async with database.transaction(patience, patience) as connection:
        return (await connection.execute(named("record_archive"), values)).rowcount > 0


async def unsettle_archives(database: PostgresDatabase, stream_ids: Sequence[str]) -> list[int]:
    """Do what `ArchivableLog.unsettle_archives` promises."""
    patience = database.options.maintenance_timeout
    async with database.transaction(patience, patience) as connection:
        found = await connection.execute(named("archives_of_streams"), {"streams": list(stream_ids)})
        numbers = sorted({int(payload[len(ARCHIVED) : -1]) for (payload,) in await found.fetchall()})
        if numbers:
            await connection.execute(named("unsettle_archives"), {"numbers": numbers})
    return numbers


async def measure_unarchived(reader: Reader, stream_ids: Sequence[str], limit: float) -> list[StreamSize]:
    """Do what `ArchivableLog.measure_unarchived` promises."""
    found = await reader.rows(named("measure_unarchived"), {"streams": list(stream_ids)}, limit=limit)
    return [StreamSize(name, int(events), int(size)) for name, events, size in found]


async def archive_payloads(database: PostgresDatabase, archived: Archived, rows: Sequence[StoredEvent]) -> int:
    """Do what `ArchivableLog.archive_payloads` promises."""
    patience = database.options.maintenance_timeout
    values = {
        "payload": archived_payload(archived.number).decode(),
        "positions": [row.position for row in rows], "found": [row.checksum for row in rows],
    }  # fmt: skip
    async with database.transaction(patience, patience) as connection:
        found = await connection.execute(named("lock_archive"), {"number": archived.number})
        if await found.fetchall() != [(archived.sha256,)]:
            raise StorageError(f"archive {archived.number} was changed by another process; archive again")
        await connection.execute(named("let_events_be_archived"))
        return int((await connection.execute(named("archive_payloads"), values)).rowcount)
