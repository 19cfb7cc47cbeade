"""Archiving closed streams: their payloads move into files of Parquet, from which the log reads them.

1. Files are tidied of which an interruption, or a tombstone, has left more than is archived in them.
2. The events of some streams are read, until they fill a file. It gets a number that no other has.
3. The file is written, synchronized with the disk, read again and compared. Only then the log records it.
4. In slices, the number takes the place of the payloads. All else of the rows stays: positions, versions, ids, types,
   tags, metadata and checksums, which cover the payloads, wherever those are.
5. The archive is settled: it holds exactly what is archived in it.

Interrupted at any point, no payload is lost: each is in the log until its file is durable and was compared. The next
call tidies up and goes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from twofold.errors import StorageError
from twofold.log.archiving.tidying import tidy_archives
from twofold.messages.endings import CLOSED
from twofold.messages.stored_event import StoredEvent
from twofold.options import LogOptions
from twofold.ports.archives import ArchivableLog, Archived
from twofold.tasks import run_in_thread


async def archive_streams(log: ArchivableLog, stream_ids: Sequence[str], *, options: LogOptions) -> int:
    """Move the payloads of streams that are closed into files; return how many those were.

    Streams that are not closed, or are archived already, are left alone.

    Args:
        log: an open log.
        stream_ids: the names of the streams, as they are stored.
        options: how large a file is, and how many rows one transaction changes.

    Raises:
        ArchiveError: no folder is named, or a file cannot be written, or reads otherwise than it was written.
        ModuleNotFoundError: DuckDB is not installed; the text names the extra.
        StorageError: the database failed; call it again to go on.
    """
    log.archive.check()
    await tidy_archives(log, options=options)
    count = 0
    async for rows in _files(log, stream_ids, options):
        count += await _archive(log, sorted(rows, key=lambda row: row.position), options)
    return count


async def _archive(log: ArchivableLog, rows: Sequence[StoredEvent], options: LogOptions) -> int:
    number, count, most = await log.begin_archive(), 0, options.removed_at_once
    written = await run_in_thread(log.archive.write, number, rows)
    if not await log.record_archive(written, instead_of=Archived(number)):
        raise StorageError(f"archive {number} was given up by another process; archive again")
    for start in range(0, len(rows), most):
        count += await log.archive_payloads(written, rows[start : start + most])
    if count == len(rows):
        await log.record_archive(written._replace(changes=0), instead_of=written)
    else:  # some rows were changed since they were read, as by a tombstone
        await tidy_archives(log, options=options)
    return count


async def _files(
    log: ArchivableLog, stream_ids: Sequence[str], options: LogOptions
) -> AsyncIterator[Sequence[StoredEvent]]:
    """Iterate over the rows of one file after the other."""
    rows, size = list[StoredEvent](), 0
    for end in sorted(await log.find_stream_ends(stream_ids), key=lambda end: end.stream_id):
        version = 0 if end.type == CLOSED else end.version
        while version < end.version - 1:
            part = await log.read_unarchived(end.stream_id, after=version, limit=options.removed_at_once)
            rows += part
            size += sum(len(row.payload) for row in part)
            version = part[-1].version if part else end.version
            if len(rows) >= options.parquet_rows or size >= options.archived_bytes:
                yield rows
                rows, size = [], 0
    if rows:
        yield rows
