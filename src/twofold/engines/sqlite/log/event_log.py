"""The event log on SQLite."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from functools import partial
from sqlite3 import Connection
from typing import Any

from twofold.engines.archive_folder import ArchiveFolder, archive_folder
from twofold.engines.sqlite.database import SqliteDatabase
from twofold.engines.sqlite.log import archives, examination, maintenance, snapshots
from twofold.engines.sqlite.log.appending import append_to
from twofold.engines.sqlite.log.inline import append_inline
from twofold.engines.sqlite.log.joined import SqliteJoinedTransaction, join
from twofold.engines.sqlite.log.reader import (
    find_command,
    read,
    read_head,
    read_mark,
    read_short_stream,
    read_stream,
    scan,
    within,
)
from twofold.engines.sqlite.log.selection import is_one_walk
from twofold.errors import HistoryChangedError, LimitExceededError
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import Mark
from twofold.messages.stored_event import StoredEvent, may_be_archived
from twofold.options import InspectionOptions
from twofold.ports.archives import Archived
from twofold.ports.event_log import Append, Appended, FoundCommand, Rejected, Scan
from twofold.ports.inline import Inline, elsewhere
from twofold.ports.maintenance import (
    Examination,
    Fork,
    Inspection,
    PrunedCommands,
    Removal,
    StoredCommand,
    StreamSize,
    TagChange,
)
from twofold.ports.read_database import ReadDatabase
from twofold.ports.snapshots import FoundSnapshot, Snapshot
from twofold.ports.watermark import Watermark


class SqliteEventLog:
    """An `EventLog` in a SQLite file. Appends of one process share commits; several processes take turns.

    Args:
        database: the file.
        archive: where payloads of closed streams are archived; by default in a folder beside the file.
    """

    has_event_table = True

    def __init__(self, database: SqliteDatabase, archive: ArchiveFolder | None = None) -> None:
        self._database = database
        self.archive = archive or archive_folder("", database.path)
        self._head = Watermark()
        self._follower: asyncio.Task[None] | None = None
        self._inline: list[Inline] = []
        self._transactions = asyncio.Lock()

    @property
    def times_set_back(self) -> int:
        return self._head.times_set_back

    async def open(self) -> None:
        await self._database.open()

    async def close(self) -> None:
        self._database.check_owner()
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
            self._follower = None
        self.archive.close()
        await self._database.close()

    async def append(self, append: Append) -> Appended | Rejected:
        job = partial(append_to, append=append)
        if self._inline:
            job = partial(append_inline, append=append, inline=self._inline)
        known = self._head.position
        try:
            outcome = await self._database.write(job, brief=self._is_brief_append(append))
        except (OverflowError, UnicodeError) as error:
            raise LimitExceededError(f"SQLite cannot store such a value: {error}; nothing was stored") from error
        if isinstance(outcome, Appended) and not outcome.repeated:
            self._head.read(outcome.last, known)
            return outcome
        return await self.archive.with_payloads(outcome)

    async def read(
        self, query: EventQuery, *, after: int = 0, before: int | None = None, limit: int, backwards: bool = False
    ) -> Sequence[StoredEvent]:
        job = partial(read, query=query, after=after, before=before, limit=limit, backwards=backwards)
        return await self._read(job, brief=self._is_brief(query, limit))

    async def _read(self, job: Callable[[Connection], Sequence[StoredEvent]], *, brief: bool) -> Sequence[StoredEvent]:
        rows = await self._database.read(job, brief=brief)
        if not may_be_archived(rows):
            return rows
        return await self.archive.filled(rows, lambda: self._database.read(job))

    async def scan(self, query: EventQuery, *, after: Mark, end: int | None = None, limit: int) -> Scan:
        job = partial(scan, query=query, after=after, end=end, limit=limit)
        known = self._head.position
        try:
            found = await self._database.read(job, brief=self._is_brief(query, limit))
        except HistoryChangedError as error:
            self._head.read(error.head, known)
            raise
        if len(found.rows) < limit and (end is None or found.covered.position < end):
            self._head.read(found.covered.position, known)
        if not may_be_archived(found.rows):
            return found
        again = partial(read, query=query, after=after.position, before=found.covered.position + 1, limit=limit)
        rows = await self.archive.filled(found.rows, lambda: self._database.read(partial(again, backwards=False)))
        return found._replace(rows=rows)

    async def mark(self, position: int) -> Mark | None:
        return await self._database.read(partial(read_mark, position=within(position)), brief=True)

    async def read_stream(
        self, stream_id: str, *, after: int = 0, limit: int, without: Sequence[str] = ()
    ) -> Sequence[StoredEvent]:
        job = partial(read_stream, stream_id=stream_id, after=after, limit=limit, without=without)
        return await self._read(job, brief=limit <= self._database.options.brief_read)

    async def head(self) -> int:
        known = self._head.position
        head = await self._database.read(read_head, brief=True)
        self._head.read(head, known)
        return head

    async def wait(self, after: int, timeout: float) -> int:
        self._database.check()
        if self._head.position <= after and (self._follower is None or self._follower.done()):
            self._follower = asyncio.create_task(self._follow(), name="twofold-sqlite-follower")
        return await self._head.wait(after, timeout)

    async def find_command(self, command_id: bytes) -> FoundCommand | None:
        found = await self._database.read(partial(find_command, command_id=command_id), brief=True)
        return await self.archive.of_command(found)

    def transaction(self, connection: Any = None) -> AbstractAsyncContextManager[SqliteJoinedTransaction]:
        return join(self._database, connection, self._inline, self._transactions, self.archive)

    def is_with(self, database: ReadDatabase) -> bool:
        return database.is_in(self._database)

    def attach(self, inline: Inline, database: ReadDatabase) -> None:
        if not self.is_with(database):
            raise elsewhere(inline)
        self._inline.append(inline)

    async def restore(self, rows: Sequence[StoredEvent], commands: Sequence[StoredCommand] = ()) -> None:
        await self._database.write(partial(maintenance.restore, rows=rows, commands=commands))
        if rows:
            self._head.advance(rows[-1].position)

    async def find_events(self, event_ids: Sequence[bytes]) -> Sequence[StoredEvent]:
        return await self._read(partial(maintenance.find_events, event_ids=event_ids), brief=False)

    async def read_mentioning(
        self, text: str, *, after: int, before: int, limit: int, backwards: bool = False
    ) -> Sequence[StoredEvent]:
        job = partial(maintenance.read_mentioning, text=text, after=after, before=before, limit=limit)
        return await self._read(partial(job, backwards=backwards), brief=False)

    async def adopt(self, log_id: bytes) -> None:
        await self._database.write(partial(maintenance.adopt, log_id=log_id))

    async def fork(self) -> Fork | None:
        return await self._database.read(maintenance.fork, brief=True)

    async def mark_fork(self, fork: Fork) -> bool:
        return await self._database.write(partial(maintenance.mark_fork, fork=fork))

    async def read_commands(self, *, after: bytes = b"", limit: int) -> Sequence[StoredCommand]:
        return await self._database.read(partial(maintenance.read_commands, after=after, limit=limit))

    async def prune_commands(
        self, *, before: int, tag: str = "", after: bytes = b"", limit: int, write: bool
    ) -> PrunedCommands | None:
        prune = partial(maintenance.prune_commands, before=before, tag=tag, after=after, limit=limit, write=write)
        return await self._database.write(prune)

    async def tagged_types(self) -> Mapping[str, str]:
        return await self._database.read(maintenance.tagged_types, brief=True)

    async def record_tagged_types(self, types: Mapping[str, str], *, seen: int | None = None) -> bool:
        return await self._database.write(partial(maintenance.record_tagged_types, types=types, seen=seen))

    async def replace_tags(self, changes: Sequence[TagChange]) -> None:
        await self._database.write(partial(maintenance.replace_tags, changes=changes))

    async def read_stream_ends(self, *, after: str = "", limit: int) -> Sequence[StoredEvent]:
        return await self._database.read(partial(maintenance.read_stream_ends, after=after, limit=limit))

    async def find_stream_ends(self, stream_ids: Sequence[str]) -> Sequence[StoredEvent]:
        return await self._database.read(partial(maintenance.find_stream_ends, stream_ids=stream_ids))

    async def measure_streams(self, stream_ids: Sequence[str]) -> Sequence[StreamSize]:
        return await self._database.read(partial(maintenance.measure_streams, stream_ids=stream_ids))

    async def remove_events(self, removals: Sequence[Removal]) -> None:
        await self._database.write(partial(maintenance.remove_events, removals=removals))

    async def read_short_stream(self, stream_id: str, *, limit: int) -> Sequence[StoredEvent] | None:
        job = partial(read_short_stream, stream_id=stream_id, limit=limit)
        rows = await self._database.read(job, brief=limit <= self._database.options.brief_read)
        if rows is None or not may_be_archived(rows):
            return rows
        return await self.archive.filled(rows, lambda: self.read_stream(stream_id, limit=limit))

    async def archives(self) -> Sequence[Archived]:
        return await self._database.read(archives.archives, brief=True)

    async def begin_archive(self) -> int:
        return await self._database.write(archives.begin_archive)

    async def record_archive(self, archived: Archived, *, instead_of: Archived) -> bool:
        job = partial(archives.record_archive, archived=archived, instead_of=instead_of)
        return await self._database.write(job)

    async def unsettle_archives(self, stream_ids: Sequence[str]) -> Sequence[int]:
        return await self._database.write(partial(archives.unsettle_archives, stream_ids=stream_ids))

    async def read_unarchived(self, stream_id: str, *, after: int = 0, limit: int) -> Sequence[StoredEvent]:
        job = partial(archives.read_unarchived, stream_id=stream_id, after=after, limit=limit)
        return await self._database.read(job)

    async def measure_unarchived(self, stream_ids: Sequence[str]) -> Sequence[StreamSize]:
        return await self._database.read(partial(archives.measure_unarchived, stream_ids=stream_ids))

    async def archive_payloads(self, archived: Archived, rows: Sequence[StoredEvent]) -> int:
        return await self._database.write(partial(archives.archive_payloads, archived=archived, rows=rows))

    async def read_archived(self, number: int, positions: Sequence[int]) -> Sequence[StoredEvent]:
        return await self._database.read(partial(archives.read_archived, number=number, positions=positions))

    async def find_snapshot(self, fold: str, subject: str) -> FoundSnapshot:
        return await self._database.read(partial(snapshots.find, fold=fold, subject=subject), brief=True)

    async def tag_changes(self) -> int:
        return await self._database.read(snapshots.tag_changes, brief=True)

    async def save_snapshot(self, snapshot: Snapshot, *, instead_of: int | None = None) -> bool:
        return await self._database.write(partial(snapshots.save, snapshot=snapshot, instead_of=instead_of))

    async def read_snapshots(self, *, after: tuple[str, str] = ("", ""), limit: int) -> Sequence[Snapshot]:
        return await self._database.read(partial(snapshots.read, after=after, limit=limit))

    async def delete_snapshots(self, fold: str | None = None, subject: str | None = None) -> int:
        return await self._database.write(partial(snapshots.delete, fold=fold, subject=subject))

    async def check(self) -> Sequence[str]:
        return await self._database.read(maintenance.check)

    async def examine(self, options: InspectionOptions) -> Examination:
        return await self._database.read(partial(examination.examine, path=self._database.path, options=options))

    async def inspect(self) -> Inspection:
        return await self._database.read(partial(maintenance.inspect, path=self._database.path))

    def _is_brief_append(self, append: Append) -> bool:
        """Return whether it takes microseconds for sure; a condition may have to look through the whole log."""
        few = len(append.events) <= self._database.options.brief_append
        return few and append.condition is None and not self._inline

    def _is_brief(self, query: EventQuery, limit: int) -> bool:
        return limit <= self._database.options.brief_read and is_one_walk(query)

    async def _follow(self) -> None:
        """Notice other processes' appends, and a log that was put back to an older state."""
        try:
            async with aclosing(self._database.changes(lambda: self._head.waiters)) as changes:
                async for connection in changes:
                    self._head.read(read_head(connection), self._head.position)
        except Exception as error:
            self._head.fail(error)
