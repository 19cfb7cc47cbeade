"""What every file of a log says of itself, in front of its events and behind them. stored: version with care."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from twofold.messages.event_query import EventQuery, QueryItem
from twofold.messages.stored_event import StoredEvent
from twofold.ports.maintenance import Fork, StoredCommand

FORMAT = 1


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was asked of an export."""

    twofold_log: int = FORMAT
    """The version of the format."""
    log: str
    """The id of the log, as hexadecimal digits."""
    after: int
    """Events behind this position, up to `end`."""
    end: int
    items: tuple[QueryItem, ...]
    """The event query that they match."""
    tagged_types: Mapping[str, str]
    """What the log records of the tags that all events of a type carry."""
    fork: Fork | None = None
    """What the log is a fork of."""
    beside: msgspec.Raw = msgspec.Raw(b"null")
    """What stands beside the log, for those who export and import that as well: JSON of theirs."""

    @property
    def query(self) -> EventQuery:
        """Which events there are."""
        return EventQuery(self.items)


class Trailer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a finished export holds."""

    events: int
    commands: int
    digest: str
    """BLAKE2b over all that comes before it, as hexadecimal digits."""


class Part(NamedTuple):
    """Some rows of a file."""

    path: Path
    """Where they stand."""
    place: int
    """Of the first of them there: the number of its line, or of its row in a file of Parquet."""
    events: Sequence[StoredEvent]
    commands: Sequence[StoredCommand]


class Written(NamedTuple):
    """What an interrupted export has written already."""

    events: int = 0
    commands: int = 0
    last: StoredEvent | None = None
    last_command: bytes = b""


class LogWriter(Protocol):
    """Writes a file; what it has written when it is interrupted is found again. It blocks: call it in a thread."""

    def begin(self, header: Header) -> tuple[Header, Written]:
        """Open what an interrupted export has left, or begin a new one; return its header and what is there.

        Raises:
            LogFileError: the file is finished already, or was begun with another header.
        """

    def write(self, events: Sequence[StoredEvent], commands: Sequence[StoredCommand]) -> None:
        """Write some rows behind the others."""

    def finish(self) -> Trailer:
        """Write the end, and give the file its name, durably."""

    def close(self) -> None:
        """Release the file, finished or not."""


class LogReader(Protocol):
    """Reads a finished file. It blocks: call it in a thread."""

    path: Path
    header: Header
    trailer: Trailer

    def check(self) -> None:
        """Make sure that the file is what was written.

        Raises:
            LogFileError: a line was changed, which is named; or lines are missing, or were added.
        """

    def parts(self) -> Generator[Part]:
        """Iterate over what it holds: events first, then commands.

        Raises:
            LogFileError: a line cannot be read.
        """
