"""Inline projections on PostgreSQL: within the transaction of the appends, on their connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncCursor, AsyncRawCursor
from psycopg.rows import tuple_row

from twofold.engines.postgres.connection import Connection
from twofold.engines.postgres.errors import server_failed
from twofold.engines.postgres.log.batch import APPEND, Batch, Outcome
from twofold.engines.postgres.log.queries import query as named
from twofold.engines.postgres.log.reader import Reader
from twofold.engines.postgres.rows import load_rows, write_changes, write_step
from twofold.engines.postgres.selection import select_page
from twofold.engines.postgres.wire.arrays import Binary, BinaryDumper, UnfitError
from twofold.engines.postgres.wire.connection import Wire
from twofold.errors import CheckpointMovedError, StorageError
from twofold.options import PostgresOptions
from twofold.ports.checkpoints import SQL
from twofold.ports.event_log import Append, Appended, Rejected
from twofold.ports.inline import (
    AppendEvents,
    Ask,
    FindRows,
    GiveWay,
    Inline,
    LoadRows,
    LockLog,
    LockSegments,
    ReadEvents,
    RunBlocking,
    WriteRows,
    WriteStep,
)
from twofold.ports.sql import in_format
from twofold.ports.watermark import Watermark
from twofold.tasks import run_in_thread

T = TypeVar("T")

_LOCK_SEGMENTS = in_format(SQL["segments_to_write"]).encode()


@asynccontextmanager
async def in_transaction(wire: Wire, options: PostgresOptions) -> AsyncIterator[None]:
    """Run the block in a transaction.

    The log is locked while this process folds: should it freeze or be cut off, the server ends the transaction. Should
    a frozen process hold a segment, the append gives up.

    Raises:
        psycopg.Error: the outcome is unknown only if the connection is lost.
    """
    idle, lock = int(options.inline_idle_timeout * 1000), int(options.inline_lock_timeout * 1000)
    await wire.command(
        f"BEGIN; SET LOCAL idle_in_transaction_session_timeout = {idle}; SET LOCAL lock_timeout = {lock}".encode()
    )
    try:
        yield
    except BaseException:
        try:
            await wire.command(b"ROLLBACK")
        except psycopg.Error:
            await wire.close()
        raise
    if await wire.command(b"COMMIT") != b"COMMIT":  # a statement had failed, and the code of the fold went on
        raise StorageError("the transaction of an append was rolled back, so that nothing was stored")


async def fold_in(connection: Connection, outcomes: Sequence[Outcome], inline: Sequence[Inline]) -> None:
    """Fold what a transaction has appended into the inline read models.

    Raises:
        ProjectionFailedError: an event cannot be folded.
        psycopg.Error: the database failed.
    """
    stored = [each for each in outcomes if isinstance(each, Appended) and not each.repeated]
    if stored:
        for each in inline:
            await carry_out(connection, each.fold(stored[0].first - 1, stored[-1].last))


async def carry_out(connection: Connection, steps: Generator[Any, Any, T]) -> T:
    """Carry out the requests of `twofold.ports.inline.Steps` within an open transaction."""
    try:
        request = next(steps)
        while True:
            try:
                answer = await _answer(connection, request)
            except Exception as error:
                if server_failed(error) or isinstance(error, StorageError | CheckpointMovedError):
                    raise
                request = steps.throw(error)
            else:
                request = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def _answer(connection: Connection, request: object) -> Any:
    match request:
        case Ask(sql, values):
            return await _run(connection, in_format(sql).encode(), values)
        case LockSegments(projection, generation):
            return await _run(connection, _LOCK_SEGMENTS, {"name": projection, "generation": generation})
        case LockLog():
            await _run(connection, named("lock_head"), {})
            return (await _run(connection, named("head"), {}))[0][0]  # a newer snapshot than that of the lock
        case ReadEvents(query, after, before, limit):
            head = Watermark()
            head.advance(before - 1)
            reader = Reader(_OneConnection(connection), head)
            return await reader.read(query, after=after, before=before, limit=limit)
        case GiveWay():
            return await asyncio.sleep(0)
        case RunBlocking(work):
            return await run_in_thread(work)
        case LoadRows(table, keys):
            return [row for row in await load_rows(connection, table, list(keys)) if row is not None]
        case FindRows(table, selection):
            return (await select_page(connection, table, selection))[0]
        case WriteStep(table, changes, step):
            return await write_step(connection, table, changes, step)
        case WriteRows(table, changes):
            return await write_changes(connection, table, changes)
        case AppendEvents(append):
            return await _append(connection, append)
    raise TypeError(f"{request!r} is no request")


async def store(connection: Connection, append: Append) -> Outcome:
    """Judge and store an append within an open transaction; the log is locked from here on.

    Raises:
        TwofoldError: a value does not fit the protocol.
        psycopg.Error: the database failed.
    """
    batch = Batch([append], careful=True)  # a known id must not break the transaction
    cursor = AsyncRawCursor(connection)
    cursor.adapters.register_dumper(Binary, BinaryDumper)
    try:
        await cursor.execute(APPEND, batch.arguments, prepare=False, binary=True)
    except UnfitError as error:
        raise error.reason from error
    assert cursor.pgresult is not None  # noqa: S101
    row = [cursor.pgresult.get_value(0, column) for column in range(cursor.pgresult.nfields)]
    [outcome] = batch.outcomes(row)
    return outcome


async def _append(connection: Connection, append: Append) -> Appended | Rejected:
    reader = Reader(_OneConnection(connection), Watermark())
    outcome = await store(connection, await reader.narrowed(append))
    return outcome if isinstance(outcome, Appended) else await reader.explained(append, outcome)


async def _run(connection: Connection, sql: bytes, values: Any) -> list[tuple[Any, ...]]:
    cursor = AsyncCursor(connection, row_factory=tuple_row)
    await cursor.execute(sql, values)
    return await cursor.fetchall() if cursor.description else []


class _OneConnection:
    """Puts questions on the connection of the transaction; errors of the driver stay what they are."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def ask(self, question: Callable[[Connection], Awaitable[T]], limit: float | None = None) -> T:
        return await question(self._connection)
