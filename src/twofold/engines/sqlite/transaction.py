"""What the jobs of one commit write with, and what the writer remembers of the log from one commit to the next."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from twofold.engines.sqlite.writing import write_rows
from twofold.options import SqliteOptions


class LogMemory:
    """The end of the log and the versions of streams, as the writer's own appends have left them.

    They are believed only while `PRAGMA data_version` says that no other connection has committed: another process may
    have appended, or may have put the database back to an older state that ends at the same position.
    """

    __slots__ = ("_state", "ended", "head", "last_tombstone", "versions")

    def __init__(self) -> None:
        self._state: int | None = None
        self.head: int | None = None
        """The last position; None until it is read."""
        self.versions: dict[str, int] = {}
        self.ended: dict[str, str] = {}
        """Streams of `versions` that take no more events, and the types of the events that say so."""
        self.last_tombstone: int | None = None
        """The position of the last tombstone of a stream; None until it is read."""

    def believe_only(self, state: int, most: int) -> None:
        """Forget everything unless it is of this state of the database, and versions if they are more than `most`."""
        if state != self._state:
            self.head = self.last_tombstone = None
            self.forget_streams()
            self._state = state
        elif len(self.versions) > most:
            self.forget_streams()

    def forget_streams(self) -> None:
        """Forget the versions of all streams."""
        self.versions.clear()
        self.ended.clear()


class Transaction:
    """What a job writes with. Rows that jobs add are inserted together, before a statement could see them or commit.

    Args:
        connection: with an open transaction that holds the write lock.
        careful: the job has failed before; it is alone now, and must not fail on anything that it could look up.
        memory: what the connection's earlier transactions have left.
        options: how much is kept.
    """

    __slots__ = ("_added", "_count", "_is_current", "_memory", "_options", "before_commit", "careful", "raw")

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        careful: bool,
        memory: LogMemory | None = None,
        options: SqliteOptions | None = None,
    ) -> None:
        self.raw = connection
        """The connection without what was added and is not yet inserted."""
        self.careful = careful
        self.before_commit: Callable[[Transaction], None] | None = None
        """What is to be done once for all jobs, after them."""
        self._options = options or SqliteOptions()
        self._memory = memory or LogMemory()
        self._is_current = False
        self._added: dict[str, list[tuple[object, ...]]] = {}
        self._count = 0

    @property
    def memory(self) -> LogMemory:
        """What is known of the log, as of the state of the database that this transaction began with."""
        if not self._is_current:
            state = self.raw.execute("PRAGMA data_version").fetchone()[0]
            self._memory.believe_only(state, self._options.versions_kept)
            self._is_current = True
        return self._memory

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, where all that was added can be seen."""
        self.flush()
        return self.raw

    def add(self, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Insert rows, by the end of the transaction at the latest; for a careful job, at once."""
        self._added.setdefault(sql, []).extend(rows)
        self._count += len(rows)
        if self.careful or self._count > self._options.rows_together:
            self.flush()

    def flush(self) -> None:
        """Insert what was added."""
        if self._count:
            added, self._added, self._count = self._added, {}, 0
            for sql, rows in added.items():
                write_rows(self.raw, sql, rows)
