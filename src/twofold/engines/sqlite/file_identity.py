"""Which file a database was opened in: SQLite goes on writing to a file that has no name any more."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from twofold.errors import OutcomeUnknownError, StorageError, StorageReplacedError

_MAGIC, _HEADER, _WRITE_AHEAD, _LARGEST_PAGE = b"SQLite format 3\0", 100, 2, 65536
"""How a database begins, the bytes of its header, the format in it of a file that has a write-ahead log beside it, and
the bytes of the largest page: <https://www.sqlite.org/fileformat2.html>."""


class FileIdentity:
    """The file that was at a path when it was opened, known by its device and inode.

    Args:
        path: the file, which must exist.
        check_every: seconds for which `check_now_and_then` believes its last look.

    Raises:
        OSError: there is no such file.
    """

    def __init__(self, path: Path, check_every: float) -> None:
        self._path = path
        self._name = os.fspath(path)  # a `Path` would double the time of each look
        self.identity = self._found()
        self._check_every = check_every
        self._check_at = 0.0

    def is_replaced(self) -> bool:
        """Return whether another file, or none, is at the path now."""
        try:
            found = os.stat(self._name)  # noqa: PTH116 - as in `_found`, without a call more for each commit
            return (found.st_dev, found.st_ino) != self.identity
        except OSError:
            return True

    def check(self) -> None:
        """Make sure that the file is still at its path.

        Raises:
            StorageReplacedError: it was deleted or replaced.
        """
        if self.is_replaced():
            raise StorageReplacedError(f"{self._told()}; nothing was stored")

    def check_now_and_then(self) -> None:
        """Make sure of the same, unless the last look was a moment ago.

        Raises:
            StorageReplacedError: the file was deleted or replaced.
        """
        now = time.monotonic()
        if now >= self._check_at:
            self.check()
            self._check_at = now + self._check_every

    def after_commit(self) -> OutcomeUnknownError | None:
        """Return the error to raise instead of acknowledging a commit, if it may have gone to a file without a name."""
        if self.is_replaced():
            return OutcomeUnknownError(f"{self._told()}; it may hold what was written just now, or not")
        return None

    def _found(self) -> tuple[int, int]:
        found = os.stat(self._name)  # noqa: PTH116
        return found.st_dev, found.st_ino

    def _told(self) -> str:
        return (
            f"{self._path}: was deleted or replaced while this process had it open; put the right file in its place "
            f"and start the process again"
        )


def empty_file(path: Path) -> FileIdentity | None:
    """Return which file is at the path if it has no content at all, so that it is a copy of nothing."""
    try:
        return None if path.stat().st_size else FileIdentity(path, 0.0)
    except OSError:
        return None  # opening tells the cause


def refuse_torn_copy(path: Path, being_made: float) -> None:
    """Refuse a copy of a file in use that lacks the write-ahead log, if it would open as an empty database.

    A database in use keeps its first changes beside it, in `-wal`, until a checkpoint moves them into the file. Before
    the first one, the file itself says that it has a write-ahead log, and holds nothing.

    Another process that makes the file right now passes through the same state, for an instant: it is waited for.

    Args:
        path: the file.
        being_made: seconds to wait for it.

    Raises:
        StorageError: the file is such a copy.
    """
    deadline = time.monotonic() + being_made
    while _lacks_its_log(path):
        if time.monotonic() > deadline:
            raise StorageError(
                f"{path}: was copied without {path.name}-wal, which holds all of its content: copy databases in use by "
                f"`VACUUM INTO` or `.backup`. If there is nothing to restore, delete the file, and a new one is made"
            )
        time.sleep(0.01)


def _lacks_its_log(path: Path) -> bool:
    try:
        size = path.stat().st_size
    except OSError:
        return False  # opening tells the cause
    if not 0 < size <= _LARGEST_PAGE or path.with_name(f"{path.name}-wal").exists():
        return False
    header = _header_if_empty(path)
    is_logged = header.startswith(_MAGIC) and header[18:20] == bytes([_WRITE_AHEAD, _WRITE_AHEAD])
    return is_logged and size <= _page_size(header)


def _page_size(header: bytes) -> int:
    return _LARGEST_PAGE if header[16:18] == b"\0\1" else int.from_bytes(header[16:18], "big")


def _header_if_empty(path: Path) -> bytes:
    """Return the header of a small file, if its tables are none.

    SQLite reads it. Python must not: a process that opens a database's file and closes it again loses the locks that
    its connections hold on it (<https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_>),
    and the next process deletes the write-ahead log under them.
    """
    try:
        with closing(sqlite3.connect(f"file:{_quoted(path)}?mode=ro&immutable=1", uri=True)) as connection:
            if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall():
                return b""
            return connection.serialize()[:_HEADER]
    except sqlite3.Error:
        return b""  # opening tells the cause


def _quoted(path: Path) -> str:
    return path.absolute().as_uri().removeprefix("file:")
