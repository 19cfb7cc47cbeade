"""The event log on PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from twofold.engines.archive_folder import ArchiveFolder, archive_folder
from twofold.engines.postgres.database import PostgresDatabase
from twofold.engines.postgres.listener import HeadOfLog, Listener
from twofold.engines.postgres.log import archives, examination, maintenance, snapshots
from twofold.engines.postgres.log.batch import Refusal
from twofold.engines.postgres.log.joined import PostgresJoinedTransaction, join
from twofold.engines.postgres.log.lane import Lane
from twofold.engines.postgres.log.reader import Reader
from twofold.engines.postgres.log.writer import Writer
from twofold.engines.postgres.pauses import pauses
from twofold.errors import OutcomeUnknownError
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import Mark
from twofold.messages.stored_event import StoredEvent
from twofold.options import InspectionOptions
from twofold.ports.archives import Archived
from twofold.ports.event_log import Append, Appended, FoundCommand, Rejected, Scan, repeated
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
from twofold.ports.owner import not_open
from twofold.ports.read_database import ReadDatabase
from twofold.ports.snapshots import FoundSnapshot, Snapshot
from twofold.ports.watermark import Watermark


class PostgresEventLog:
    """An `EventLog` in a PostgreSQL database, shared by any number of processes and hosts.

    Args:
        database: where; it may serve the read models as well. Its options say how long anything may take.
        archive: where payloads of closed streams are archived; by default, the environment says it.
    """

    has_event_table = True

    def __init__(self, database: PostgresDatabase, archive: ArchiveFolder | None = None) -> None:
        self._database = database
        self.archive = archive or archive_folder("")
        self._head = Watermark()
        self._reader = Reader(database, self._head, database.options, self.archive)
        self._writer = Writer(database, self._head, lambda: self._listener.look_again())
        self._lane = Lane(self._writer, database.options)
        self._listener = Listener(database, HeadOfLog(self._head, self._writer.commits_on))
        self._is_open = False

    @property
    def times_set_back(self) -> int:
        return self._head.times_set_back

    @property
    def chunk(self) -> int:
        """How many events it had better be asked for at once: see `pace_of`."""
        return self._database.options.chunk

    async def open(self) -> None:
        if self._is_open:
            self._database.check()
        else:
            await self._database.open()
            self._is_open = True
            try:
                await self.head()
            except BaseException:
                await self.close()
                raise

    async def close(self) -> None:
        if self._is_open:
            self._database.check()
            self._is_open = False
            await self._lane.drain()
            await self._listener.stop()
            await self._writer.close()
            self.archive.close()
            await self._database.close()

    async def append(self, append: Append) -> Appended | Rejected:
        if not self._is_open:
            raise not_open("the event log")
        self._database.check()
        if len(append.events) > 1:
            repeated(append.events, [None] * len(append.events))  # raises if an id stands there twice
        narrowed = append if append.condition is None else await self._reader.narrowed(append)
        outcome = await self._lane.submit(narrowed)
        return outcome if isinstance(outcome, Appended) else await self._explained(append, outcome)

    async def _explained(self, append: Append, refusal: Refusal) -> Appended | Rejected:
        """Ask what is known of a refused append until the server answers: it may have gone away once more."""
        deadline = time.monotonic() + self._database.options.append_timeout
        for pause in pauses(self._database.options):
            try:
                return await self._reader.explained(append, refusal)
            except OutcomeUnknownError:
                if time.monotonic() + pause > deadline:
                    raise
            await asyncio.sleep(pause)
        raise AssertionError("the pauses do not end")

    async def read(
        self, query: EventQuery, *, after: int = 0, before: int | None = None, limit: int, backwards: bool = False
    ) -> Sequence[StoredEvent]:
        return await self._reader.read(query, after=after, before=before, limit=limit, backwards=backwards)

    async def scan(self, query: EventQuery, *, after: Mark, end: int | None = None, limit: int) -> Scan:
        return await self._reader.scan(query, after=after, end=end, limit=limit)

    async def mark(self, position: int) -> Mark | None:
        return await self._reader.mark(position)

    async def read_stream(
        self, stream_id: str, *, after: int = 0, limit: int, without: Sequence[str] = ()
    ) -> Sequence[StoredEvent]:
        return await self._reader.read_stream(stream_id, after=after, limit=limit, without=without)

    async def head(self) -> int:
        return await self._reader.head()

    async def wait(self, after: int, timeout: float) -> int:
        self._database.check()
        if self._head.position <= after:
            self._listener.start()
        return await self._head.wait(after, timeout)

    async def find_command(self, command_id: bytes) -> FoundCommand | None:
        return await self._reader.find_command(command_id)

    def transaction(self, connection: Any = None) -> AbstractAsyncContextManager[PostgresJoinedTransaction]:
        """Join a transaction, or open one. It runs at READ COMMITTED."""
        return join(self._database, self._head, connection, self._writer.inline, self.archive)

    def is_with(self, database: ReadDatabase) -> bool:
        return database.is_in(self._database)

    def attach(self, inline: Inline, database: ReadDatabase) -> None:
        """Fold within the appends' transactions. An append then takes several round trips, with the log locked."""
        if not self.is_with(database):
            raise elsewhere(inline)
        self._writer.inline.append(inline)

    async def restore(self, rows: Sequence[StoredEvent], commands: Sequence[StoredCommand] = ()) -> None:
        await maintenance.restore(self._database, rows, commands)
        if rows:
            self._head.advance(rows[-1].position)

    async def find_events(self, event_ids: Sequence[bytes]) -> Sequence[StoredEvent]:
        return await self._reader.find_events(event_ids)

    async def read_mentioning(
        self, text: str, *, after: int, before: int, limit: int, backwards: bool = False
    ) -> Sequence[StoredEvent]:
        return await self._reader.read_mentioning(text, after, before, limit, backwards=backwards)

    async def adopt(self, log_id: bytes) -> None:
        await maintenance.adopt(self._database, log_id)

    async def fork(self) -> Fork | None:
        return await maintenance.fork(self._reader)

    async def mark_fork(self, fork: Fork) -> bool:
        return await maintenance.mark_fork(self._database, fork)

    async def read_commands(self, *, after: bytes = b"", limit: int) -> Sequence[StoredCommand]:
        return await maintenance.read_commands(self._reader, after, limit)

    async def prune_commands(
        self, *, before: int, tag: str = "", after: bytes = b"", limit: int, write: bool
    ) -> PrunedCommands | None:
        return await maintenance.prune_commands(self._database, before, tag, after, limit, write=write)

    async def tagged_types(self) -> Mapping[str, str]:
        return await maintenance.tagged_types(self._reader)

    async def record_tagged_types(self, types: Mapping[str, str], *, seen: int | None = None) -> bool:
        return await maintenance.record_tagged_types(self._database, types, seen)

    async def replace_tags(self, changes: Sequence[TagChange]) -> None:
        await maintenance.replace_tags(self._database, changes)

    async def read_stream_ends(self, *, after: str = "", limit: int) -> Sequence[StoredEvent]:
        return await self._reader.read_stream_ends(after, limit)

    async def find_stream_ends(self, stream_ids: Sequence[str]) -> Sequence[StoredEvent]:
        return await self._reader.find_stream_ends(stream_ids)

    async def measure_streams(self, stream_ids: Sequence[str]) -> Sequence[StreamSize]:
        return await maintenance.measure_streams(self._reader, stream_ids, self._database.options.maintenance_timeout)

    async def remove_events(self, removals: Sequence[Removal]) -> None:
        await maintenance.remove_events(self._database, removals)

    async def read_short_stream(self, stream_id: str, *, limit: int) -> Sequence[StoredEvent] | None:
        return await self._reader.read_short_stream(stream_id, limit=limit)

    async def archives(self) -> Sequence[Archived]:
        return await archives.archives(self._reader)

    async def begin_archive(self) -> int:
        return await archives.begin_archive(self._database)

    async def record_archive(self, archived: Archived, *, instead_of: Archived) -> bool:
        return await archives.record_archive(self._database, archived, instead_of)

    async def unsettle_archives(self, stream_ids: Sequence[str]) -> Sequence[int]:
        return await archives.unsettle_archives(self._database, stream_ids)

    async def read_unarchived(self, stream_id: str, *, after: int = 0, limit: int) -> Sequence[StoredEvent]:
        return await self._reader.read_unarchived(stream_id, after, limit)

    async def measure_unarchived(self, stream_ids: Sequence[str]) -> Sequence[StreamSize]:
        return await archives.measure_unarchived(self._reader, stream_ids, self._database.options.maintenance_timeout)

    async def archive_payloads(self, archived: Archived, rows: Sequence[StoredEvent]) -> int:
        return await archives.archive_payloads(self._database, archived, rows)

    async def read_archived(self, number: int, positions: Sequence[int]) -> Sequence[StoredEvent]:
        return await self._reader.read_archived(number, positions)

    async def find_snapshot(self, fold: str, subject: str) -> FoundSnapshot:
        return await snapshots.find(self._reader, fold, subject)

    async def tag_changes(self) -> int:
        return await snapshots.tag_changes(self._reader)

    async def save_snapshot(self, snapshot: Snapshot, *, instead_of: int | None = None) -> bool:
        return await snapshots.save(self._reader, snapshot, instead_of)

    async def read_snapshots(self, *, after: tuple[str, str] = ("", ""), limit: int) -> Sequence[Snapshot]:
        return await snapshots.read(self._reader, after, limit)

    async def delete_snapshots(self, fold: str | None = None, subject: str | None = None) -> int:
        patience = self._database.options.maintenance_timeout
        return await snapshots.delete(self._reader, fold, subject, patience)

    async def check(self) -> Sequence[str]:
        return await maintenance.check(self._reader, self._database.options.maintenance_timeout)

    async def examine(self, options: InspectionOptions) -> Examination:
        return await examination.examine(self._reader, options)

    async def inspect(self) -> Inspection:
        return await maintenance.inspect(self._reader, self._database.options.maintenance_timeout)
