"""The places that events get in another log, and where each event of the source went: positions and versions.

Both are kept in a temporary file that the system removes with the process, so that memory stays flat however many
streams there are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

import msgspec
from msgspec.structs import replace

from twofold.messages.stored_event import StoredEvent, content_checksum, seal

_encode = msgspec.json.Encoder().encode
_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE versions (stream_id TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE turns (position INTEGER PRIMARY KEY, last INTEGER NOT NULL);
"""
_VERSIONS = "SELECT stream_id, version FROM versions WHERE stream_id IN (SELECT value FROM json_each(?))"
_SET_VERSION = "INSERT OR REPLACE INTO versions VALUES (?, ?)"
_ADD_TURN = "INSERT INTO turns VALUES (?, ?)"
_TURN = "SELECT position, last FROM turns WHERE position <= ? ORDER BY position DESC LIMIT 1"


class Renumbering:
    """Gives events of another log positions and versions without gaps. Use it as a block; it removes its file."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._connection.executescript(_SCHEMA)
        self.position = 0
        """The last position that was given."""
        self._turn = (0, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def placed(self, rows: Sequence[StoredEvent]) -> list[StoredEvent]:
        """Return rows at the places that follow, with the checksums over these."""
        versions = dict(self._connection.execute(_VERSIONS, (_encode([row.stream_id for row in rows]).decode(),)))
        placed = [self._place(row, versions) for row in rows]
        with self._connection:
            self._connection.executemany(_SET_VERSION, versions.items())
        return placed

    def note(self, became: Iterable[tuple[int, int]]) -> None:
        """Remember how many events each event of the source became, given by its position, in their order."""
        turns = []
        for position, count in became:
            before, last = self._turn
            expected = last + position - before
            reached = last + position - before - 1 + count
            if reached != expected:  # else it follows from the last turn
                self._turn = (position, reached)
                turns.append(self._turn)
        self._connection.executemany(_ADD_TURN, turns)

    def last_of(self, position: int) -> int:
        """Return the position of the last event that the source's events up to a position became; 0 if there is none.

        The positions of the source have no gaps.
        """
        found = self._connection.execute(_TURN, (position,)).fetchone()
        before, last = found or (0, 0)
        return int(last + position - before)

    def _place(self, row: StoredEvent, versions: dict[str, int]) -> StoredEvent:
        self.position += 1
        version = 0
        if row.stream_id:
            version = versions[row.stream_id] = versions.get(row.stream_id, 0) + 1
        checksum = seal(content_checksum(row), self.position, version, row.recorded_at)
        return replace(row, position=self.position, version=version, checksum=checksum)
