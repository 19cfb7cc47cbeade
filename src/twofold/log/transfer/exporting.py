"""Exports a log to a file, chunk by chunk.

1. The header says what was asked; an interrupted export is gone on with only if the same is asked again.
2. Events are read and verified, and written, while the next ones are read ahead. Then come the commands.
3. The file gets its name when it is whole.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

from twofold.arguments import check_function, check_instance, check_whole
from twofold.errors import LogFileError
from twofold.log.chunks import Rows, pace_of_all, scan_chunks
from twofold.log.event_store import EventStore
from twofold.log.transfer.formats import checked_path, portable, writer
from twofold.log.transfer.header import Header, LogWriter, Written
from twofold.log.verify import Progress, check_intact, command_chunks, no_progress, verified
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import Mark
from twofold.options import LogOptions
from twofold.ports.maintenance import PortableLog
from twofold.tasks import run_in_thread


class Exported(NamedTuple):
    """A file that was finished."""

    events: int
    """Events in the file."""
    commands: int
    """Records of commands in it, with which a repeated command is known; none of an export by a query."""
    already: int
    """Events that an interrupted export had written before."""
    end: int
    """The position up to which the log was read."""


async def export_log(
    store: EventStore,
    path: str | Path,
    *,
    query: EventQuery | None = None,
    after: int = 0,
    end: int | None = None,
    progress: Progress = no_progress,
) -> Exported:
    """Write events of a log to a file: JSON Lines if its name ends in `.jsonl`, Parquet if it ends in `.parquet`.

    Each event is written as the log holds it, with its position, ids, time, tags, metadata and checksum. The file
    gets its name when it is whole. Interrupted, also by a crash, the export goes on when it is asked for again with the
    same arguments. Memory stays flat. Applications may go on writing.

    Args:
        store: an open store.
        path: of a file that does not exist yet. Of Parquet it is a folder of files.
        query: which events; by default all, with the records of the commands that led to them.
        after: the position behind which they stand.
        end: the position up to which; by default the head of now, or of when the interrupted export was begun.
        progress: told how far it has come.

    Raises:
        TypeError, ValueError: an argument cannot work, such as a name that tells no format.
        LogFileError: the file exists, or was begun with other arguments.
        CorruptEventError: an event does not match its checksum.
        HistoryChangedError: the log was restored to another history than an interrupted export has read.
        StorageError: the database failed, or an event is missing; export again to go on.
        OSError: the file cannot be written; export again to go on.
        ModuleNotFoundError: Parquet needs its extra, `twofold[duckdb]`.
    """
    check_instance("store", store, EventStore)
    place = checked_path(path)
    if query is not None:
        check_instance("query", query, EventQuery, "such as EventQuery.of(OrderCreated)")
    check_whole("after", after)
    if end is not None:
        check_whole("end", end, after)
    check_function("progress", progress)
    wanted = await header_of(portable(store), query or EventQuery.all(), after, end)
    return await export(portable(store), place, wanted, end, progress, store.options)


async def export(
    log: PortableLog, path: Path, wanted: Header, end: int | None, progress: Progress, options: LogOptions
) -> Exported:
    """Export what a header says, or go on with an export that was begun with one like it; see `export_log`.

    Args:
        log: an open log.
        path: of the file.
        wanted: what is asked for.
        end: the position up to which it was asked for; None takes that of the interrupted export.
        progress: told how far it has come.
        options: how much is read and written at once.
    """
    file = writer(path, options)
    try:
        header, written = await run_in_thread(file.begin, wanted)
        _compare(path, header, wanted, end)
        await _write_events(log, file, header, written, progress, options)
        await _write_commands(log, file, header, written, options)
        trailer = await run_in_thread(file.finish)
    finally:
        await run_in_thread(file.close)
    return Exported(trailer.events, trailer.commands, written.events, header.end)


async def header_of(log: PortableLog, query: EventQuery, after: int, end: int | None) -> Header:
    """Return the header of an export that is begun now.

    Raises:
        ValueError: the log ends before it would.
        StorageError: the database failed.
    """
    beginning, tagged, head = await log.mark(0), await log.tagged_types(), await log.head()
    if beginning is None or max(after, end or 0) > head:
        raise ValueError(f"the log ends at position {head}; export up to there at most")
    until = head if end is None else end
    return Header(
        log=beginning.event_id.hex(), after=after, end=until, items=query.items, tagged_types=dict(tagged),
        fork=await log.fork(),
    )  # fmt: skip


def _compare(path: Path, begun: Header, wanted: Header, end: int | None) -> None:
    """Refuse to go on with an export that was asked for in other words."""
    if begun.log != wanted.log:
        raise LogFileError(path, "an export of another log was begun there; remove what it left, or name another file")
    same_end = end is None or begun.end == end
    if (begun.items, begun.after) != (wanted.items, wanted.after) or not same_end:
        raise LogFileError(
            path, "an export of other events was begun there; repeat its arguments, or remove what it left"
        )


async def _write_events(
    log: PortableLog, file: LogWriter, header: Header, written: Written, progress: Progress, options: LogOptions
) -> None:
    after = Mark(written.last.position, written.last.event_id) if written.last else Mark(header.after)
    async with aclosing(_chunks(log, header, after, options)) as chunks:
        async for rows in chunks:
            await run_in_thread(file.write, rows, ())
            progress("exporting", rows[-1].position - header.after, header.end - header.after)


async def _chunks(log: PortableLog, header: Header, after: Mark, options: LogOptions) -> AsyncGenerator[Rows]:
    """Iterate over the events of an export, verified; no chunk is empty."""
    query, end = header.query, header.end
    if after.event_id:
        await log.scan(query, after=after, end=after.position, limit=1)  # raises if the log has another history by now
    if query.is_all:
        chunks = verified(log, end, after=after.position, options=options)
    else:
        pace = pace_of_all(options)
        chunks = scan_chunks(log, query, after, end, pace)
    async with aclosing(chunks):
        async for rows in chunks:
            if not query.is_all:
                check_intact(rows)
            if rows:
                yield rows


async def _write_commands(
    log: PortableLog, file: LogWriter, header: Header, written: Written, options: LogOptions
) -> None:
    """Write the commands all of whose events were written; where events are left out, a receipt would name others."""
    if not header.query.is_all:
        return
    async for commands in command_chunks(log, options.whole_log_chunk, after=written.last_command):
        within = [each for each in commands if header.after < each.first_position and each.last_position <= header.end]
        if within:
            await run_in_thread(file.write, (), within)
