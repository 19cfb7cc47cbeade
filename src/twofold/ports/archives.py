"""The port of archives: payloads of closed streams that are in files, while all else of their events stays in the log.

1. `begin_archive` reserves a number. A file of that number is written, read again and compared.
2. `record_archive` says what the file is. From then on, readers may be led there.
3. `archive_payloads` puts the number in the place of each payload, in slices. The rows keep their checksums, which
   cover the payloads themselves.

An archive that is not `is_settled` may hold more than is archived in it: it is being made, was interrupted, or events
of it were removed since. Before it is written again, `record_archive` takes back what it is, and no payload follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from twofold.messages.stored_event import StoredEvent
from twofold.ports.maintenance import PortableLog, StreamSize


class Archived(NamedTuple):
    """A file of payloads, as the log records it."""

    number: int
    events: int = 0
    size: int = 0
    """Bytes of the file."""
    sha256: str = ""
    """Of the file, in hexadecimal digits; empty: it is being written for the first time. What is no such digest is the
    mark of the process that writes it again."""
    changes: int = 1
    """How often it was told that the file may hold more than is archived in it; 0: it does not."""

    @property
    def is_settled(self) -> bool:
        """Whether the file holds exactly what is archived in it."""
        return self.changes == 0

    @property
    def is_written(self) -> bool:
        """Whether there is a file, and the log knows its digest."""
        return self.events > 0 and len(self.sha256) == 64


class Archive(Protocol):
    """The folder of the files; its calls block."""

    path: Path | None
    """None: none is named, and none of the files can be read."""

    def file(self, number: int) -> Path:
        """Return where the file of a number is.

        Raises:
            ArchiveError: no folder is named.
        """

    def check(self) -> None:
        """Make sure that files can be written and read here.

        Raises:
            ArchiveError: no folder is named.
            ModuleNotFoundError: DuckDB is not installed; the text names the extra.
        """

    def write(self, number: int, rows: Sequence[StoredEvent], *, instead: bool = False) -> Archived:
        """Write the payloads of rows to a file, durably, read it again, and return what it is, with `changes` as 1.

        Args:
            number: of the file.
            rows: whole, in the order of their positions.
            instead: whether it may take the place of a file that is there.

        Raises:
            ArchiveError: it cannot be written, or reads otherwise than it was written; or there is such a file.
        """

    def examine(self, archived: Archived) -> str:
        """Return what is wrong with a file by its name and size alone; empty: nothing."""

    def compare(self, archived: Archived) -> str:
        """Return what is wrong with a file, all of which is read; empty: nothing."""

    def positions(self, number: int) -> list[int]:
        """Return the positions of which a file has the payloads, in order.

        Raises:
            ArchiveError: it cannot be read.
        """

    def delete(self, number: int) -> None:
        """Delete a file, if it is there.

        Raises:
            ArchiveError: it cannot be deleted.
        """

    def whole(self, rows: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
        """Return rows with their payloads; each that comes from a file matches the checksum of its row.

        Raises:
            ArchiveError: a file is missing, damaged or another one; the text names it.
        """


class ArchivableLog(PortableLog, Protocol):
    """An event log whose closed streams can be archived."""

    archive: Archive

    async def archives(self) -> Sequence[Archived]:
        """Return all archives, in the order of their numbers.

        Raises:
            StorageError: the database failed.
        """

    async def begin_archive(self) -> int:
        """Reserve the number of a further archive, durably, and return it.

        Raises:
            StorageError: the database failed, or another process did so at the same time.
        """

    async def record_archive(self, archived: Archived, *, instead_of: Archived) -> bool:
        """Record durably what an archive is, and return whether that was done: not if its `sha256` is another by now.

        If its `changes` are others than those of `instead_of`, they stay what they are.

        Raises:
            StorageError: nothing was recorded.
        """

    async def unsettle_archives(self, stream_ids: Sequence[str]) -> Sequence[int]:
        """Record of the archives of some streams that they may hold more than is archived; return their numbers.

        Raises:
            StorageError: nothing was recorded.
        """

    async def read_unarchived(self, stream_id: str, *, after: int = 0, limit: int) -> Sequence[StoredEvent]:
        """Return up to `limit` events of a stream behind a version whose payloads are in the log, in order.

        The event that closes the stream is none of them: it stays.

        Raises:
            StorageError: the database failed.
        """

    async def measure_unarchived(self, stream_ids: Sequence[str]) -> Sequence[StreamSize]:
        """Return how much of each of these streams `read_unarchived` gives, as far as it gives any.

        Raises:
            StorageError: the database failed.
        """

    async def archive_payloads(self, archived: Archived, rows: Sequence[StoredEvent]) -> int:
        """Put the number of an archive in the place of payloads, durably, in one transaction; return how many it were.

        A row that is no longer as it was found stays so, as does one that is archived.

        Raises:
            StorageError: nothing was stored, as the archive is no longer what it was recorded to be; or the database
                failed.
        """

    async def read_archived(self, number: int, positions: Sequence[int]) -> Sequence[StoredEvent]:
        """Return those of the events at some positions that are archived under a number, without their payloads.

        Raises:
            StorageError: the database failed.
        """
