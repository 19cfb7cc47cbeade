"""What the jobs of one commit write with, and what a connection keeps in mind from one commit to the next."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from twofold.engines.sqlite.writing import write_rows

MAX_ADDED = 5000
"""Rows that are kept back at most, to be inserted together."""
MAX_SEEN = 10_000
"""Streams whose versions are kept in mind."""


class Seen:
    """What the connection knows of streams from its own appends; it holds until the head of the log is another one."""

    def __init__(self) -> None:
        self.head: int | None = None
        self.versions: dict[str, int] = {}

    def hold_at(self, head: int) -> None:
        """Forget what was seen before, unless the log still ends where it ended then."""
        if self.head not in (None, head) or len(self.versions) > MAX_SEEN:
            self.versions.clear()
        self.head = head

    def keep(self, head: int | None) -> None:
        """Keep what a transaction has seen, if it has also seen where the log ends."""
        self.head = self.head if head is None else head
        if self.head is None:
            self.versions.clear()


class Transaction:
    """What a job writes with. Rows that jobs add are inserted together, before anybody looks or commits."""

    __slots__ = ("_added", "_count", "before_commit", "careful", "head", "raw", "seen")

    def __init__(self, connection: sqlite3.Connection, *, careful: bool, seen: Seen | None = None) -> None:
        self.raw = connection
        """The connection without what was added and is not yet inserted."""
        self.careful = careful
        """The job has failed before; it is alone now, and must not fail on anything that it could look up."""
        self.seen = Seen() if seen is None else seen
        self.head: int | None = None
        """The last position of the log, once somebody has asked for it."""
        self.before_commit: Callable[[Transaction], None] | None = None
        """What is to be done once for all jobs, after them."""
        self._added: dict[str, list[tuple[object, ...]]] = {}
        self._count = 0

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, where all that was added can be seen."""
        self.flush()
        return self.raw

    def add(self, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Insert rows, by the end of the transaction at the latest; for a careful job, at once."""
        self._added.setdefault(sql, []).extend(rows)
        self._count += len(rows)
        if self.careful or self._count > MAX_ADDED:
            self.flush()

    def flush(self) -> None:
        """Insert what was added."""
        if self._count:
            added, self._added, self._count = self._added, {}, 0
            for sql, rows in added.items():
                write_rows(self.raw, sql, rows)
