"""Checks the files of the archive against what the log has recorded of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import cast

from twofold.errors import ArchiveError
from twofold.log.integrity.damage import Damage
from twofold.ports.archives import ArchivableLog
from twofold.ports.event_log import EventLog
from twofold.tasks import run_in_thread


async def damaged_archives(log: EventLog) -> AsyncGenerator[Damage]:
    """Iterate over what is wrong with the files of the archive: missing, damaged, others, or not finished.

    Raises:
        StorageError: the database failed.
    """
    if not hasattr(log, "archives"):
        return
    archivable = cast(ArchivableLog, log)
    for archived in await archivable.archives():
        where = f"archive {archived.number}"
        if reason := await run_in_thread(archivable.archive.compare, archived):
            yield Damage("archive", where, ArchiveError(None, reason))
        elif not archived.is_settled:
            text = (
                f"file {archived.number} may hold more than is archived in it: a process is writing it now, or was "
                f"interrupted; `twofold retention apply` goes on"
            )
            yield Damage("archive", where, ArchiveError(None, text))
