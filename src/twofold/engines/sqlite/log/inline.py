"""Inline projections on SQLite: within the transaction of the appends, in the thread that commits them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, TypeVar

from twofold.engines.sqlite.errors import storage_failed
from twofold.engines.sqlite.log.appending import append_to, head_of
from twofold.engines.sqlite.log.reader import read_head, read_within
from twofold.engines.sqlite.rows import in_sql, load_rows, write_changes, write_step
from twofold.engines.sqlite.selection import select_page
from twofold.engines.sqlite.transaction import Transaction
from twofold.errors import CheckpointMovedError, StorageError
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

T = TypeVar("T")
Answer = Callable[[sqlite3.Connection, object], Any]


def append_inline(transaction: Transaction, append: Append, inline: Sequence[Inline]) -> Appended | Rejected:
    """Append; all appends of the transaction are folded together, right before it commits."""
    if transaction.before_commit is None:
        transaction.before_commit = partial(_fold, inline=inline, after=head_of(transaction))
    return append_to(transaction, append)


def append_at_once(connection: sqlite3.Connection, append: Append, inline: Sequence[Inline]) -> Appended | Rejected:
    """Append and fold within a transaction that its owner commits."""
    transaction = Transaction(connection, careful=True)
    outcome = append_inline(transaction, append, inline)
    if transaction.before_commit is not None:
        transaction.before_commit(transaction)
    return outcome


def carry_out(connection: sqlite3.Connection, steps: Generator[Any, Any, T], answer_to: Answer | None = None) -> T:
    """Carry out the requests of `twofold.ports.inline.Steps` within a transaction that holds the write lock.

    Args:
        connection: with the transaction.
        steps: asks for one thing after the other.
        answer_to: answers a request, where the log is not in the connection's database.

    Raises:
        StorageError: the database failed.
        Exception: whatever the steps raise.
    """
    answer_to = answer_to or answer
    try:
        request = next(steps)
        while True:
            try:
                given = answer_to(connection, request)
            except Exception as error:
                if storage_failed(error) or isinstance(error, StorageError | CheckpointMovedError):
                    raise
                request = steps.throw(error)
            else:
                request = steps.send(given)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def _fold(transaction: Transaction, inline: Sequence[Inline], after: int) -> None:
    if (head := head_of(transaction)) > after:
        for each in inline:
            carry_out(transaction.connection, each.fold(after, head))


def answer(connection: sqlite3.Connection, request: object) -> Any:
    """Return what a request of `twofold.ports.inline.Steps` asks for."""
    match request:
        case Ask(sql, values):
            return connection.execute(sql, values).fetchall()
        case LockSegments(projection, generation):
            values = {"name": projection, "generation": generation}
            return connection.execute(SQL["segments_to_write"], values).fetchall()
        case LockLog():
            return read_head(connection)
        case ReadEvents(query, after, before, limit):
            return read_within(connection, query, after, before, limit)
        case GiveWay():
            return None  # this is a thread of its own
        case RunBlocking(work):
            return work()
        case LoadRows(table, keys):
            return load_rows(connection, table, keys)
        case FindRows(table, selection):
            return select_page(connection, table, selection)[0]
        case WriteStep(table, changes, step):
            return write_step(connection, table, in_sql(table, changes), step)
        case WriteRows(table, changes):
            return write_changes(connection, table, in_sql(table, changes))
        case AppendEvents(append):
            transaction = Transaction(connection, careful=False)
            outcome = append_to(transaction, append)
            transaction.flush()
            return outcome
    raise TypeError(f"{request!r} is no request")
