"""Inline projections in memory: what they ask of the log is answered from its lists, all else by SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Protocol

from twofold.engines.sqlite.log.inline import answer as answer_of_sqlite
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import StoredEvent
from twofold.ports.event_log import Append, Appended, Rejected
from twofold.ports.inline import AppendEvents, LockLog, ReadEvents


class Lists(Protocol):
    """The log, for questions while a transaction is open: they may not wait."""

    def read_now(self, query: EventQuery, after: int, before: int | None, limit: int) -> Sequence[StoredEvent]:
        """Return events as `EventLog.read` does, at once."""

    def head_now(self) -> int:
        """Return the highest position, at once."""

    def append_now(self, append: Append) -> Appended | Rejected:
        """Judge and store an append, to be taken back if the open transaction is rolled back."""


def answer(connection: sqlite3.Connection, request: object, *, log: Lists) -> Any:
    """Return what a request of `twofold.ports.inline.Steps` asks for."""
    match request:
        case LockLog():
            return log.head_now()
        case ReadEvents(query, after, before, limit):
            return log.read_now(query, after, before, limit)
        case AppendEvents(append):
            return log.append_now(append)
        case _:
            return answer_of_sqlite(connection, request)
