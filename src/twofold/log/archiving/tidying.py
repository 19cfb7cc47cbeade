"""Tidying the archive: files are written again that hold more than is archived in them.

That is so after an interruption, and after events were removed that were archived: what was removed must not stay in a
file. The log takes back what it has recorded of the file first, so that no further payload is archived in it; each
payload that stays is compared with the checksum of its row.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast
from uuid import uuid4

from twofold.errors import ArchiveError, StorageError
from twofold.messages.stored_event import StoredEvent
from twofold.options import LogOptions
from twofold.ports.archives import ArchivableLog, Archived
from twofold.ports.event_log import EventLog
from twofold.tasks import run_in_thread


async def unsettle_archives(log: EventLog, stream_ids: Sequence[str]) -> None:
    """Record of the archives of streams that events of them are about to be removed.

    Raises:
        ArchiveError: no folder is named, so that the payloads could not be removed from the files.
        StorageError: the database failed.
    """
    if not hasattr(log, "unsettle_archives"):
        return
    archivable = cast(ArchivableLog, log)
    if await archivable.unsettle_archives(stream_ids):
        archivable.archive.check()


async def tidy_archives(log: EventLog, *, options: LogOptions) -> int:
    """Write the files again that may hold more than is archived in them; return how many those were.

    Raises:
        ArchiveError: a file is missing or damaged, and with it payloads that are needed.
        StorageError: the database failed; call it again to go on.
    """
    if not hasattr(log, "archives"):
        return 0
    archivable = cast(ArchivableLog, log)
    unsettled = [each for each in await archivable.archives() if not each.is_settled]
    for archived in unsettled:
        await _tidy(archivable, archived, options)
    return len(unsettled)


async def _tidy(log: ArchivableLog, archived: Archived, options: LogOptions) -> None:
    number, path = archived.number, log.archive.file(archived.number)
    if reason := await run_in_thread(log.archive.compare, archived):
        raise ArchiveError(None, reason)
    claim = archived._replace(sha256=f"by {uuid4().hex}")
    if not await log.record_archive(claim, instead_of=archived):
        return  # another process tidies it
    if rows := await _archived_in(log, number, options.whole_log_chunk):
        whole = await run_in_thread(log.archive.whole, rows)
        written = await run_in_thread(partial(log.archive.write, number, whole, instead=True))
    else:
        if archived.events and not path.exists():
            raise ArchiveError(path, "it is missing; put the file back, from a backup of the folder")
        empty = claim._replace(events=0)
        await log.record_archive(empty, instead_of=claim)
        await run_in_thread(log.archive.delete, number)
        written = Archived(number, sha256="none")
    if not await log.record_archive(written._replace(changes=0), instead_of=claim):
        raise StorageError(f"archive {number} was tidied by another process at the same time; tidy again")


async def _archived_in(log: ArchivableLog, number: int, most: int) -> list[StoredEvent]:
    """Return the rows whose payloads are in a file, as they are in the log."""
    if not log.archive.file(number).exists():
        return []
    positions, rows = await run_in_thread(log.archive.positions, number), list[StoredEvent]()
    for start in range(0, len(positions), most):
        rows += await log.read_archived(number, positions[start : start + most])
    return rows
