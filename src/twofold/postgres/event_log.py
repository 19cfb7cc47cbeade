"""The event log on PostgreSQL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from psycopg import AsyncCursor
from psycopg.types.string import ByteaBinaryLoader

from twofold.errors import OutcomeUnknownError, StorageUnavailableError
from twofold.event_log import (
    MAX_CONFLICTS,
    Append,
    Appended,
    CommandRecord,
    Rejected,
    condition_rejection,
    repeated,
    repeated_command,
    version_rejection,
)
from twofold.event_query import AppendCondition, EventQuery
from twofold.head import Head
from twofold.postgres.batch import Refusal
from twofold.postgres.database import PostgresDatabase
from twofold.postgres.lane import Lane
from twofold.postgres.listener import Listener
from twofold.postgres.queries import query as named
from twofold.postgres.selection import END, select
from twofold.postgres.writer import Writer
from twofold.stored_event import StoredEvent, as_stored_event

T = TypeVar("T")

NARROW = 1000
"""A condition that looks at no more events than this is checked by the append alone."""
LONG = 10_000
"""From this length on the server's plans for reading are sure to use the indexes, and may be kept."""


class PostgresEventLog:
    """An `EventLog` in a PostgreSQL database, shared by any number of processes and hosts.

    Args:
        database: where; it may serve the read models as well.
        deadline: seconds within which the outcome of an append must be learnt, whatever happens to the server.
    """

    def __init__(self, database: PostgresDatabase, *, deadline: float = 30.0) -> None:
        self._database = database
        self._head = Head()
        self._writer = Writer(database, self._head, deadline)
        self._lane = Lane(self._writer)
        self._listener = Listener(database, self._head)
        self._is_open = False

    async def open(self) -> None:
        """See `EventLog.open`."""
        if not self._is_open:
            await self._database.open()
            self._is_open = True
            await self.head()

    async def close(self) -> None:
        """See `EventLog.close`."""
        if self._is_open:
            self._is_open = False
            await self._lane.drain()
            await self._listener.stop()
            await self._writer.close()
            await self._database.close()

    async def append(self, append: Append) -> Appended | Rejected:
        """See `EventLog.append`."""
        if not self._is_open:
            raise RuntimeError("the event log is not open; use `async with`, or await open() first")
        if len(append.events) > 1:
            repeated(append.events, [None] * len(append.events))  # raises if an id stands there twice
        narrowed = append if append.condition is None else await self._narrowed(append, append.condition)
        outcome = await self._lane.submit(narrowed)
        if isinstance(outcome, Appended):
            return outcome
        return await self._explained(append, outcome)

    async def read(
        self, query: EventQuery, *, after: int = 0, before: int | None = None, limit: int, backwards: bool = False
    ) -> Sequence[StoredEvent]:
        """See `EventLog.read`."""
        sql, arguments = select(query, after, before, limit, backwards=backwards)
        return await self._rows(sql, arguments, keep_plan=query.is_all)

    async def read_stream(self, stream_id: str, *, after: int = 0, limit: int) -> Sequence[StoredEvent]:
        """See `EventLog.read_stream`."""
        arguments = {"stream": stream_id, "after": min(after, END), "limit": min(limit, END)}
        return await self._rows(named("read_stream"), arguments, keep_plan=True)

    async def head(self) -> int:
        """See `EventLog.head`."""
        row = await self._row(named("head"), {})
        head = int(row[0]) if row else 0
        self._head.advance(head)
        return head

    async def wait(self, after: int, timeout: float) -> int:
        """See `EventLog.wait`."""
        if self._head.position <= after:
            self._listener.start()
        return await self._head.wait(after, timeout)

    async def find_command(self, command_id: bytes) -> tuple[CommandRecord, Appended] | None:
        """See `EventLog.find_command`."""
        row = await self._row(named("find_command"), {"id": UUID(bytes=command_id)})
        return row and (CommandRecord(*row[:3]), Appended(row[3], row[4], result=row[2], version=row[5]))

    async def _narrowed(self, append: Append, condition: AppendCondition) -> Append:
        """Look through the long part of a condition's range before the append takes the lock.

        What does not match now never will: the append then has to check only what is newer.
        """
        after = condition.after or 0
        if self._head.position - after <= NARROW:
            return append
        head = await self.head()
        found = await self.read(condition.fail_if, after=after, before=head + 1, limit=1)
        near = AppendCondition(condition.fail_if, found[0].position - 1 if found else head)
        return msgspec.structs.replace(append, condition=near)

    async def _explained(self, append: Append, refusal: Refusal) -> Appended | Rejected:
        """Find out what an append was refused for: the log only grows, so it is all still there."""
        if refusal.reason == "known":
            try:
                return await self._repeated(append)
            except StorageUnavailableError as error:
                raise OutcomeUnknownError(f"it is stored, but the receipt cannot be read now: {error}") from error
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

    async def _repeated(self, append: Append) -> Appended:
        if append.command and (known := await self.find_command(append.command.command_id)):
            return repeated_command(append.command, known)
        ids = [UUID(bytes=event.event_id) for event in append.events]
        stored = {row.event_id: row for row in await self._rows(named("read_events"), {"ids": ids}, keep_plan=False)}
        earlier = repeated(append.events, [stored.get(event.event_id) for event in append.events])
        assert earlier is not None  # noqa: S101
        return earlier

    async def _rows(self, sql: bytes, arguments: Any, *, keep_plan: bool) -> Sequence[StoredEvent]:
        async def run() -> Sequence[StoredEvent]:
            async with self._database.connection() as connection:
                cursor = AsyncCursor(connection, row_factory=lambda _: as_stored_event)
                cursor.adapters.register_loader("json", ByteaBinaryLoader)  # the bytes that the checksum covers
                cursor.adapters.register_loader("uuid", ByteaBinaryLoader)
                prepare = None if keep_plan and self._head.position > LONG else False
                await cursor.execute(sql, arguments, prepare=prepare, binary=True)
                return await cursor.fetchall()

        return await self._again_if_cut(run)

    async def _row(self, sql: bytes, arguments: Any) -> tuple[Any, ...] | None:
        async def run() -> tuple[Any, ...] | None:
            async with self._database.connection() as connection:
                return await (await connection.execute(sql, arguments, binary=True)).fetchone()

        return await self._again_if_cut(run)

    async def _again_if_cut(self, run: Callable[[], Awaitable[T]]) -> T:
        """Read; and once more if the connection turns out to be dead, as all are after a restart of the server."""
        try:
            return await run()
        except StorageUnavailableError:
            await self._database.discard_broken()
            return await run()
