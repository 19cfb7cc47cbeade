"""Imports a file of `export_log` into a log, chunk by chunk.

1. The whole file is compared with its digest: nothing of a damaged one is imported.
2. `Places` says where its events go: to their own positions, or, if some are left out, one behind the other.
3. What the log holds already, of an import that was interrupted, is compared; the rest is stored, and so are commands.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from twofold.arguments import check_function, check_instance
from twofold.errors import LogFileError
from twofold.log.event_store import EventStore
from twofold.log.transfer.formats import checked_path, portable, reader
from twofold.log.transfer.header import LogReader, Part
from twofold.log.transfer.places import Places, places
from twofold.log.transfer.restoring import Restoring, restore_commands
from twofold.log.verify import Progress, no_progress
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import StoredEvent, are_intact, is_intact
from twofold.ports.maintenance import PortableLog
from twofold.tasks import run_in_thread


class Imported(NamedTuple):
    """A file whose events all stand in the log."""

    events: int
    """Events of the file."""
    commands: int
    """Records of commands in it."""
    already: int
    """Events of the file that the log held before, from an import that was interrupted."""
    last: int
    """The position of the last event in the log; 0 if the file has none."""


async def import_log(store: EventStore, path: str | Path, *, progress: Progress = no_progress) -> Imported:
    """Store the events of a file that `export_log` has written.

    Ids, order, times, tags and metadata stay the same. Of an export of a whole log, positions, versions and the
    receipts of commands do so, too: the log becomes a copy of that one, and checkpoints of subscribers stay valid.
    Where an export leaves events out, the others get positions and versions without gaps, and the log is another one.

    Interrupted, also by a crash, it goes on when it is run again. Nothing else may write to the log while it runs.

    Args:
        store: an open store whose log is empty, holds the beginning of the file, or ends where the file goes on.
        path: of the file.
        progress: told how far it has come.

    Raises:
        TypeError, ValueError: an argument cannot work, such as a name that tells no format.
        LogFileError: the file is no export, was not finished or was changed, or the log holds other events; the text
            names the line. Of a file that is not whole, nothing is stored.
        LogsDifferError: another program writes to the log.
        StorageError: the database failed; import again to go on.
        OSError: the file cannot be read.
        ModuleNotFoundError: Parquet needs its extra, `twofold[duckdb]`.
    """
    check_instance("store", store, EventStore)
    place = checked_path(path)
    check_function("progress", progress)
    log = portable(store)
    file = await run_in_thread(reader, place, store.options)
    await run_in_thread(file.check)
    head = await log.head()
    to_places = await places(log, file, head)
    if file.header.fork and not head:
        await log.mark_fork(file.header.fork)
    already, last = await _store(log, file, to_places, head, progress)
    if file.header.tagged_types:
        await log.record_tagged_types(file.header.tagged_types)
    return Imported(file.trailer.events, file.trailer.commands, already, last)


async def _store(log: PortableLog, file: LogReader, to: Places, head: int, progress: Progress) -> tuple[int, int]:
    """Store what the log lacks; return how many events it had, and the position of the last."""
    seen, first, last, already, command = file.header.after, 0, 0, 0, b""
    ending = Part(file.path, 0, (), ())
    with closing(file.parts()) as parts:
        async with Restoring(
            log, lambda stored: progress("importing", stored - first + 1, file.trailer.events)
        ) as target:
            while (part := await run_in_thread(next, parts, ending)) is not ending:
                if part.events:
                    seen = _check(part, seen, is_whole=file.header.query.is_all)
                    rows = to.events(part.events)
                    first, last = first or rows[0].position, rows[-1].position
                    known = max(min(head, last) - rows[0].position + 1, 0)
                    await _compare(log, part, rows[:known])
                    already += known
                    if known < len(rows):
                        await target.store(rows[known:])
                if part.commands:
                    await target.finish()
                    await restore_commands(log, to.commands(part.commands), command, last)
                    command = part.commands[-1].command_id
    return already, last


def _check(part: Part, after: int, *, is_whole: bool) -> int:
    """Check the events of a part by themselves: a digest that fits does not mean that they are those of a log.

    Args:
        part: with events.
        after: the position of the event before them.
        is_whole: whether no event is left out between them.

    Returns:
        the position of the last.
    """
    for place, row in enumerate(part.events, part.place):
        if row.position <= after or (is_whole and row.position > after + 1):
            raise LogFileError(part.path, f"event {row.position} follows event {after}", place)
        after = row.position
    if not are_intact(part.events):
        place, row = next((place, row) for place, row in enumerate(part.events, part.place) if not is_intact(row))
        raise LogFileError(part.path, f"event {row.position} does not match its checksum", place)
    return after


async def _compare(log: PortableLog, part: Part, rows: Sequence[StoredEvent]) -> None:
    """Make sure that the log holds these rows; it may have given their events more tags."""
    if not rows:
        return
    first, last = rows[0].position, rows[-1].position
    stored = await log.read(EventQuery.all(), after=first - 1, before=last + 1, limit=len(rows))
    if list(stored) == list(rows):
        return
    for line, (row, other) in enumerate(zip(rows, stored, strict=True), part.place):
        if row != replace(other, tags=row.tags, checksum=row.checksum):
            raise LogFileError(
                part.path,
                f"the log holds another event at position {row.position}; import into an empty database",
                line,
            )
