"""Verifies a whole log, or part of it, for those who read all of it: the first damage is raised."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress

from twofold.errors import CorruptEventError, StorageError
from twofold.log.chunks import Rows, pace_of_all, scan_chunks
from twofold.log.integrity.archives import damaged_archives
from twofold.log.integrity.events import damaged_events, damaged_rows
from twofold.log.integrity.records import damaged_commands, damaged_storage
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import Mark
from twofold.messages.stored_event import are_intact, is_intact
from twofold.options import LogOptions
from twofold.ports.event_log import EventLog
from twofold.ports.maintenance import PortableLog, StoredCommand

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, the position that it has reached, and the position at its end."""


def no_progress(stage: str, position: int, end: int) -> None:
    """Show no progress."""


async def verify_log(log: PortableLog, *, progress: Progress = no_progress, options: LogOptions | None = None) -> int:
    """Check every event up to today's head, and the storage beneath; return how many events are intact: all.

    Raises:
        CorruptEventError: an event does not match its checksum.
        CorruptCommandError: the record of a command does not match its checksum.
        HistoryChangedError: the log was put back to an older state while it was read.
        StorageError: an event is missing or misplaced, or the storage is damaged; the text names the first damage.
    """
    head, options = await log.head(), options or LogOptions()

    def reached(position: int) -> None:
        progress("verifying", position, head)

    for damages in (
        damaged_archives(log),
        damaged_events(log, head, reached=reached, options=options),
        damaged_commands(log, options.whole_log_chunk),
        damaged_storage(log),
    ):
        async with aclosing(damages):
            async for damage in damages:
                raise damage.error
    return head


async def command_chunks(log: PortableLog, most: int, *, after: bytes = b"") -> AsyncIterator[Sequence[StoredCommand]]:
    """Iterate over the records of all commands in the order of their ids, a chunk at a time; no chunk is empty.

    Raises:
        CorruptCommandError: a record does not match its checksum.
        StorageError: the database failed.
    """
    while commands := await log.read_commands(after=after, limit=most):
        yield commands
        after = commands[-1].command_id


async def verified(
    log: EventLog, end: int, *, after: int = 0, options: LogOptions | None = None
) -> AsyncGenerator[Rows]:
    """Iterate over the log from one position to another, verified, a chunk at a time; no chunk is empty.

    Raises:
        CorruptEventError: an event does not match its checksum.
        HistoryChangedError: the log was put back to an older state while it was read.
        StorageError: an event is missing or misplaced.
    """
    options = options or LogOptions()
    pace = pace_of_all(options)
    async with aclosing(scan_chunks(log, EventQuery.all(), Mark(after), end, pace)) as all_chunks:
        async for rows in all_chunks:
            for damage in damaged_rows(rows, after):
                raise damage.error
            after += len(rows)
            if rows:
                yield rows
    if after < end:
        raise StorageError(f"the log ends at {end}, but there is nothing after {after}; restore it from a backup")


def check_intact(rows: Rows) -> None:
    """Make sure that rows match their checksums.

    Raises:
        CorruptEventError: one does not.
    """
    with suppress(TypeError, ValueError):
        if are_intact(rows):
            return
    raise CorruptEventError(next(row.position for row in rows if not is_intact(row)))
