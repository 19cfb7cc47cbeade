"""The folder of the archive: files of Parquet with the payloads of closed streams, and how rows get them back.

A file is written under another name, synchronized with the disk, read again and compared before it gets its own name.
It has two columns, the positions in ascending order and the payloads.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import file_digest
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

from msgspec.structs import replace

from twofold.errors import ArchiveError
from twofold.messages.stored_event import StoredEvent, archive_number, is_intact, may_be_archived
from twofold.ports.archives import Archived
from twofold.ports.event_log import Appended, FoundCommand, Rejected
from twofold.ports.sql import literal
from twofold.tasks import run_in_thread

VARIABLE = "TWOFOLD_ARCHIVE"
_SETTINGS: dict[str, Any] = {"autoinstall_known_extensions": False, "autoload_known_extensions": False, "threads": 1}
_FORMAT = "FORMAT parquet, COMPRESSION zstd"
_EXTRA = "the archive needs DuckDB: pip install 'twofold[duckdb]'"
_BACK = "put the file back, from a backup of the folder"


def archive_folder(named: str, beside: Path | None = None) -> ArchiveFolder:
    """Return the folder that options name, else the environment, else one beside the file of a log."""
    path = named or os.environ.get(VARIABLE, "")
    if path:
        return ArchiveFolder(Path(path))
    return ArchiveFolder(beside.with_name(beside.name + "-archive") if beside else None)


class ArchiveFolder:
    """An `Archive` in a folder.

    Args:
        path: of the folder; it is made when the first file is written. None: there is none.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._connection: Any = None
        self._lock = Lock()

    def file(self, number: int) -> Path:
        if self.path is None:
            raise ArchiveError(
                None, f"no folder is named; write LogOptions(archive=…), or set {VARIABLE} in the environment"
            )
        return self.path / f"payloads-{number:06}.parquet"

    def check(self) -> None:
        self.file(1)
        if find_spec("duckdb") is None:
            raise ModuleNotFoundError(_EXTRA)

    def write(self, number: int, rows: Sequence[StoredEvent], *, instead: bool = False) -> Archived:
        path = self.file(number)
        new = path.with_suffix(f".{os.getpid()}.new")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _remove_begun(path)
            self._copy(rows, new)
            new.chmod(0o600)  # as the databases that it comes from
            _sync(new)
            if self._read(new, [row.position for row in rows]) != {row.position: bytes(row.payload) for row in rows}:
                raise ArchiveError(new, "it reads otherwise than it was written; the disk is to be distrusted")
            found = Archived(number, len(rows), new.stat().st_size, _digest(new))
            if instead:
                new.replace(path)
            else:
                os.link(new, path)  # which no file that is there is lost by
                new.unlink()
            _sync(path.parent)
        except FileExistsError as error:
            raise ArchiveError(path, "another log has such a file there; give each log a folder of its own") from error
        except OSError as error:
            raise ArchiveError(path, f"it cannot be written: {error}") from error
        finally:
            with suppress(OSError):
                new.unlink(missing_ok=True)
        return found

    def examine(self, archived: Archived) -> str:
        if not archived.is_written:
            return ""
        try:
            size = self.file(archived.number).stat().st_size
        except ArchiveError as error:
            return str(error)
        except OSError as error:
            return f"{self.file(archived.number)} is missing ({error.strerror}); {_BACK}"
        return "" if size == archived.size else f"{self.file(archived.number)} is damaged or another file; {_BACK}"

    def compare(self, archived: Archived) -> str:
        found = self.examine(archived)
        if found or not archived.is_written:
            return found
        path = self.file(archived.number)
        try:
            return "" if _digest(path) == archived.sha256 else f"{path} is damaged or another file; {_BACK}"
        except OSError as error:
            return f"{path} cannot be read: {error}"

    def positions(self, number: int) -> list[int]:
        path = self.file(number)
        with self._asked(path) as cursor:
            return [row[0] for row in cursor.execute(f"SELECT position FROM {_table(path)} ORDER BY 1").fetchall()]

    def delete(self, number: int) -> None:
        path = self.file(number)
        try:
            path.unlink(missing_ok=True)
            _remove_begun(path)
            if path.parent.exists():
                _sync(path.parent)
        except OSError as error:
            raise ArchiveError(path, f"it cannot be deleted: {error}") from error

    def whole(self, rows: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
        wanted = defaultdict[int, list[int]](list)
        for place, row in enumerate(rows):
            if number := archive_number(row):
                wanted[number].append(place)
        if not wanted:
            return rows
        filled = list(rows)
        for number, places in wanted.items():
            found = self._read(self.file(number), [rows[place].position for place in places])
            for place in places:
                filled[place] = self._checked(rows[place], found, number)
        return filled

    async def filled(
        self, rows: Sequence[StoredEvent], again: Callable[[], Awaitable[Sequence[StoredEvent]]]
    ) -> Sequence[StoredEvent]:
        """Return rows with their payloads, read in a thread.

        Args:
            rows: that were read.
            again: reads them once more: an event may have been removed since, and with it its payload in the file.

        Raises:
            ArchiveError: a file is missing, damaged or another one.
        """
        try:
            return await run_in_thread(self.whole, rows)
        except ArchiveError:
            return await run_in_thread(self.whole, await again())

    async def with_payloads(self, outcome: Appended | Rejected) -> Appended | Rejected:
        """Return what came of an append, with the payloads of the events that it tells."""
        told = outcome.rows if isinstance(outcome, Appended) else outcome.conflicts
        if not may_be_archived(told):
            return outcome
        whole = tuple(await run_in_thread(self.whole, told))
        return outcome._replace(rows=whole) if isinstance(outcome, Appended) else outcome._replace(conflicts=whole)

    async def of_command(self, found: FoundCommand | None) -> FoundCommand | None:
        """Return what is recorded of a command, with the payloads of its events."""
        if found is None or not may_be_archived(found.rows):
            return found
        return found._replace(rows=tuple(await run_in_thread(self.whole, found.rows)))

    def close(self) -> None:
        """Release what reading has taken; it may be used again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _checked(self, row: StoredEvent, found: dict[int, bytes], number: int) -> StoredEvent:
        if (payload := found.get(row.position)) is None:
            raise ArchiveError(self.file(number), f"it lacks event {row.position}, and is another file; {_BACK}")
        whole = replace(row, payload=payload)
        if not is_intact(whole):
            raise ArchiveError(
                self.file(number),
                f"its payload of event {row.position} does not match the event's checksum: it is damaged, or another "
                f"file; {_BACK}",
            )
        return whole

    def _read(self, path: Path, positions: Sequence[int]) -> dict[int, bytes]:
        """Return the payloads at some positions, as far as the file has them."""
        sql = (
            f"SELECT position, payload FROM {_table(path)} WHERE position BETWEEN ? AND ? "
            f"AND position IN (SELECT unnest(?::BIGINT[]))"
        )
        with self._asked(path) as cursor:
            found = cursor.execute(sql, [min(positions), max(positions), list(positions)]).fetchall()
        return {position: payload.encode() for position, payload in found}

    def _copy(self, rows: Sequence[StoredEvent], path: Path) -> None:
        table = f"rows_{uuid4().hex}"
        with self._asked(path, "it cannot be written") as cursor:
            cursor.execute(f"CREATE TABLE {table} (position BIGINT, payload VARCHAR)")
            try:
                with cursor.appender(table) as appender:
                    appender.append_rows([(row.position, bytes(row.payload).decode()) for row in rows])
                cursor.execute(f"COPY (FROM {table} ORDER BY position) TO {literal(path)} ({_FORMAT})")
            finally:
                cursor.execute(f"DROP TABLE {table}")

    @contextmanager
    def _asked(self, path: Path, failed: str = "") -> Iterator[Any]:
        """Have a cursor, and translate the errors of DuckDB.

        Raises:
            ArchiveError: the file cannot be read, or written.
        """
        try:
            import duckdb
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(_EXTRA) from error
        with self._lock:
            if self._connection is None:
                self._connection = duckdb.connect(":memory:", config=_SETTINGS)
            cursor = self._connection.cursor()
        try:
            yield cursor
        except (duckdb.Error, ValueError, AttributeError) as error:
            if failed:
                raise ArchiveError(path, f"{failed}: {error}") from error
            reason = f"it is damaged, or no file of an archive: {error}" if path.exists() else "it is missing"
            raise ArchiveError(path, f"{reason}; {_BACK}") from error
        finally:
            cursor.close()


def _remove_begun(path: Path) -> None:
    """Remove what processes that were killed have left of a file."""
    for begun in path.parent.glob(f"{path.stem}.*.new"):
        begun.unlink(missing_ok=True)


def _table(path: Path) -> str:
    return f"read_parquet({literal(path)})"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Make a file durable, or the names of the files in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
