"""What the event log reads, over the pool's connections or over one whose transaction is joined."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import starmap
from operator import attrgetter
from typing import Any, Protocol, TypeVar
from uuid import UUID

import msgspec
from psycopg import AsyncCursor
from psycopg.rows import tuple_row
from psycopg.types.string import ByteaBinaryLoader

from twofold.engines.archive_folder import ArchiveFolder
from twofold.engines.postgres.connection import Connection
from twofold.engines.postgres.log.batch import Refusal, bounded_position
from twofold.engines.postgres.log.queries import query as named
from twofold.engines.postgres.log.selection import END, select, select_scan
from twofold.errors import HistoryChangedError, OutcomeUnknownError, StorageUnavailableError
from twofold.messages.endings import TOMBSTONED
from twofold.messages.event_query import AppendCondition, EventQuery
from twofold.messages.mark import Mark
from twofold.messages.stored_event import StoredEvent, archived_payload, may_be_archived
from twofold.options import PostgresOptions
from twofold.ports.event_log import (
    MAX_CONFLICTS,
    Append,
    Appended,
    FoundCommand,
    Rejected,
    Scan,
    condition_rejection,
    ended_rejection,
    found_command,
    repeated,
    repeated_command,
    scanned,
    scanned_from,
    version_rejection,
)
from twofold.ports.watermark import Watermark

T = TypeVar("T")


class Lender(Protocol):
    """Where a reader puts its questions."""

    async def ask(self, question: Callable[[Connection], Awaitable[T]], limit: float | None = None) -> T:
        """Put a question on some connection, perhaps twice; errors of the driver are translated."""


class Reader:
    """Reads events and commands, and finds out why an append was refused."""

    def __init__(
        self,
        lender: Lender,
        head: Watermark,
        options: PostgresOptions = PostgresOptions(),  # noqa: B008 - it is immutable
        archive: ArchiveFolder | None = None,
    ) -> None:
        self._archive = archive
        self._lender = lender
        self._options = options
        self._head = head

    async def read(
        self, query: EventQuery, *, after: int = 0, before: int | None = None, limit: int, backwards: bool = False
    ) -> Sequence[StoredEvent]:
        sql, arguments = select(query, after, before, limit, self._options, backwards=backwards)
        return await self._fetch(sql, arguments, keep_plan=query.is_all)

    async def scan(self, query: EventQuery, *, after: Mark, end: int | None = None, limit: int) -> Scan:
        known, last = self._head.position, None if end is None else max(end, after.position)
        scan = await (self._scan_all if query.is_all and after.position else self._scan)(query, after, last, limit)
        if len(scan.rows) < limit and (last is None or scan.covered.position < last):
            self._head.read(scan.covered.position, known)
        return scan

    async def _scan_all(self, query: EventQuery, after: Mark, end: int | None, limit: int) -> Scan:
        before = None if end is None else end + 1
        rows = await self.read(query, after=after.position - 1, before=before, limit=min(limit, END - 1) + 1)
        if scan := scanned_from(rows, after):
            return scan
        raise HistoryChangedError(after, await self.mark(after.position), await self.head())

    async def _scan(self, query: EventQuery, after: Mark, end: int | None, limit: int) -> Scan:
        sql, arguments = select_scan(query, after.position, end, limit, self._options)
        rows = await self._fetch(sql, arguments, keep_plan=False)
        marks = {row.position: Mark(row.position, row.event_id) for row in rows if row.version < 0}
        found = marks.get(after.position)
        if found is None or not after.agrees(found):
            raise HistoryChangedError(after, found, await self.head())
        return scanned(rows[len(marks) :], limit, marks[max(marks)])

    async def mark(self, position: int) -> Mark | None:
        found = await self.rows(named("mark"), {"position": bounded_position(position)})
        return Mark(*found[0]) if found else None

    async def read_stream(
        self, stream_id: str, *, after: int = 0, limit: int, without: Sequence[str] = ()
    ) -> Sequence[StoredEvent]:
        arguments: dict[str, Any] = {"stream": stream_id, "after": min(after, END), "limit": min(limit, END)}
        if without:
            arguments["without"] = list(without)
            return await self._fetch(named("read_stream_without"), arguments, keep_plan=True)
        return await self._fetch(named("read_stream"), arguments, keep_plan=True)

    async def read_short_stream(self, stream_id: str, *, limit: int) -> Sequence[StoredEvent] | None:
        arguments = {"stream": stream_id, "limit": min(limit, END)}
        rows = await self._fetch(named("read_short_stream"), arguments, keep_plan=True)
        return None if rows and rows[-1].version >= limit else rows

    async def head(self) -> int:
        known = self._head.position
        [(head,)] = await self.rows(named("head"), {})
        self._head.read(head, known)
        return int(head)

    async def find_command(self, command_id: bytes) -> FoundCommand | None:
        found = await self._select(named("find_command"), {"id": UUID(bytes=command_id)}, keep_plan=True)
        return await self._command(found) if found else None

    async def _command(self, found: Sequence[Sequence[Any]]) -> FoundCommand | None:
        """Return a command, given rows of it and its events."""
        command = found_command(found)
        return await self._archive.of_command(command) if self._archive else command

    async def read_unarchived(self, stream_id: str, after: int, limit: int) -> list[StoredEvent]:
        arguments = {"stream": stream_id, "after": min(after, END), "limit": min(limit, END)}
        return await self._rows(named("read_unarchived"), arguments, keep_plan=False)

    async def read_archived(self, number: int, positions: Sequence[int]) -> list[StoredEvent]:
        payload = archived_payload(number)
        rows = await self._rows(named("read_at_positions"), {"positions": list(positions)}, keep_plan=False)
        return [row for row in rows if row.payload == payload]

    async def find_events(self, event_ids: Sequence[bytes]) -> list[StoredEvent]:
        ids = [UUID(bytes=each) for each in event_ids]
        found = await self._fetch(named("read_events"), {"ids": ids}, keep_plan=False)
        return sorted(found, key=attrgetter("position"))

    async def read_stream_ends(self, after: str, limit: int) -> Sequence[StoredEvent]:
        return await self._fetch(named("read_stream_ends"), {"after": after, "limit": min(limit, END)}, keep_plan=False)

    async def find_stream_ends(self, stream_ids: Sequence[str]) -> Sequence[StoredEvent]:
        return await self._fetch(named("find_stream_ends"), {"streams": list(stream_ids)}, keep_plan=False)

    async def read_mentioning(
        self, text: str, after: int, before: int, limit: int, *, backwards: bool
    ) -> Sequence[StoredEvent]:
        arguments = {
            "text": text, "after": bounded_position(after), "before": bounded_position(before), "limit": min(limit, END)
        }  # fmt: skip
        name = "read_mentioning_backwards" if backwards else "read_mentioning"
        return await self._fetch(named(name), arguments, keep_plan=False)

    async def narrowed(self, append: Append) -> Append:
        """Look through the long part of a condition's range before the append takes the lock.

        What does not match now never will: the append then has to check only what is newer. So is a tombstone of a
        stream, whose events may have matched.
        """
        condition = append.condition
        if condition is None or self._head.position - (condition.after or 0) <= self._options.narrow_condition:
            return append
        head = await self.head()
        query = condition.fail_if | EventQuery.exactly(TOMBSTONED)
        sql, arguments = select(query, condition.after or 0, head + 1, 1, self._options, backwards=False)
        found = await self._rows(sql, arguments, keep_plan=query.is_all)  # of which no payload is looked at
        near = AppendCondition(condition.fail_if, found[0].position - 1 if found else head)
        return msgspec.structs.replace(append, condition=near)

    async def explained(self, append: Append, refusal: Refusal) -> Appended | Rejected:
        """Find out what an append was refused for: the log only grows, so it is all still there."""
        if append.command and refusal.earlier and (known := await self._command(refusal.earlier)):
            return repeated_command(append.command, known)
        if refusal.reason == "known":
            try:
                return await self._repeated(append)
            except StorageUnavailableError as error:
                raise OutcomeUnknownError(f"it is stored, but the receipt cannot be read now: {error}") from error
        if refusal.reason == "ended":
            stream_id = append.events[refusal.expectation].stream_id
            [last] = await self.read_stream(stream_id, after=refusal.version - 1, limit=1)
            return ended_rejection(last)
        if refusal.reason == "condition":
            assert append.condition is not None  # noqa: S101
            after = append.condition.after or 0
            conflicts = await self.read(
                append.condition.fail_if, after=after, before=refusal.head + 1, limit=MAX_CONFLICTS
            )
            return condition_rejection(append.condition, conflicts)
        stream_id, expected = append.expected[refusal.expectation]
        newer: Sequence[StoredEvent] = ()
        if isinstance(expected, int):
            rows = await self.read_stream(stream_id, after=max(expected, 0), limit=MAX_CONFLICTS)
            newer = [row for row in rows if row.position <= refusal.head]
        return version_rejection(stream_id, expected, refusal.version, newer)

    async def rows(self, sql: bytes, arguments: Any, *, limit: float | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of any query, of one that takes long within a limit of its own."""

        async def run(connection: Connection) -> list[tuple[Any, ...]]:
            cursor = AsyncCursor(connection, row_factory=tuple_row)
            await cursor.execute(sql, arguments, binary=True)
            return await cursor.fetchall()

        return await self._lender.ask(run, limit)

    async def _repeated(self, append: Append) -> Appended:
        if append.command and (known := await self.find_command(append.command.command_id)):
            return repeated_command(append.command, known)
        found = await self.find_events([event.event_id for event in append.events])
        stored = {row.event_id: row for row in found}
        earlier = repeated(append.events, [stored.get(event.event_id) for event in append.events])
        assert earlier is not None  # noqa: S101
        return earlier

    async def _fetch(self, sql: bytes, arguments: Any, *, keep_plan: bool) -> Sequence[StoredEvent]:
        """Return events with their payloads, wherever those are."""
        rows = await self._rows(sql, arguments, keep_plan=keep_plan)
        if self._archive is None or not may_be_archived(rows):
            return rows
        return await self._archive.filled(rows, lambda: self._rows(sql, arguments, keep_plan=keep_plan))

    async def _rows(self, sql: bytes, arguments: Any, *, keep_plan: bool) -> list[StoredEvent]:
        """Return events as they are in the log."""
        return list(starmap(StoredEvent, await self._select(sql, arguments, keep_plan=keep_plan)))

    async def _select(self, sql: bytes, arguments: Any, *, keep_plan: bool) -> list[tuple[Any, ...]]:
        """Return rows of which some columns are those of events."""

        async def run(connection: Connection) -> list[tuple[Any, ...]]:
            cursor = AsyncCursor(connection, row_factory=tuple_row)
            for name in ("json", "uuid"):  # the bytes that the checksum covers
                cursor.adapters.register_loader(name, ByteaBinaryLoader)
            prepare = None if keep_plan and self._head.position > self._options.long_log else False
            await cursor.execute(sql, arguments, prepare=prepare, binary=True)
            return await cursor.fetchall()

        return await self._lender.ask(run)
