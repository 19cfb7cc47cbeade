"""Where the events of a file go in the log that imports them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec.structs import replace

from twofold.errors import LogFileError
from twofold.log.transfer.header import LogReader
from twofold.messages.stored_event import StoredEvent, seal
from twofold.ports.maintenance import PortableLog, StoredCommand


class Places(Protocol):
    """Gives each row and command of a file the one that is to be stored."""

    def events(self, rows: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
        """Return the rows to store; called for all rows of the file, in order."""

    def commands(self, commands: Sequence[StoredCommand]) -> Sequence[StoredCommand]:
        """Return the commands to store."""


class OwnPlaces:
    """Everything keeps its place: the log becomes a copy of the one that was exported, or already is its beginning."""

    def events(self, rows: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
        """Return the rows themselves."""
        return rows

    def commands(self, commands: Sequence[StoredCommand]) -> Sequence[StoredCommand]:
        """Return the commands themselves."""
        return commands


class NewPlaces:
    """Events of an export that leaves some out follow each other without gaps, in the log and in their streams.

    Args:
        after: the position behind which the export begins.
    """

    def __init__(self, after: int) -> None:
        self._after = after
        self._position = 0
        self._versions: dict[str, int] = {}

    def events(self, rows: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
        """Return the rows with new positions and versions, and the checksums over these."""
        return list(map(self._placed, rows))

    def commands(self, commands: Sequence[StoredCommand]) -> Sequence[StoredCommand]:
        """Return the commands of an export that leaves out only what is before it."""
        return [
            each._replace(
                first_position=each.first_position - self._after, last_position=each.last_position - self._after
            )
            for each in commands
        ]

    def _placed(self, row: StoredEvent) -> StoredEvent:
        self._position += 1
        version = 0
        if row.stream_id:
            version = self._versions[row.stream_id] = self._versions.get(row.stream_id, 0) + 1
        content = seal(row.checksum, row.position, row.version, row.recorded_at)  # a seal undoes itself
        checksum = seal(content, self._position, version, row.recorded_at)
        return replace(row, position=self._position, version=version, checksum=checksum)


async def places(log: PortableLog, file: LogReader, head: int) -> Places:
    """Return where the events of a file go.

    Raises:
        LogFileError: the log is neither empty nor one that the file continues.
    """
    header, beginning = file.header, await log.mark(0)
    is_same = beginning is not None and beginning.event_id.hex() == header.log
    if not header.query.is_all or (header.after and not is_same):
        return NewPlaces(header.after)
    if header.after > head:
        raise LogFileError(
            file.path, f"it begins behind position {header.after}, and the log ends at {head}; import what is between"
        )
    if head and not is_same:
        raise LogFileError(file.path, "it is of another log than the target holds; import it into an empty database")
    if not head:
        await log.adopt(bytes.fromhex(header.log))
    return OwnPlaces()
