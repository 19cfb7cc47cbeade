"""SQLite's errors in the framework's words, told apart by result code (https://sqlite.org/rescode.html).

Every path uses these functions: `translate` for what failed before the commit, when nothing was stored for certain, and
`commit_failed` for a COMMIT.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from twofold.errors import (
    LimitExceededError,
    MissingTableError,
    OutcomeUnknownError,
    ReadOnlyStorageError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
    TwofoldError,
)

_FAILURES_OF_STORAGE = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_PERM,
}  # fmt: skip
_NOT_COMMITTED = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_CONSTRAINT,
}  # fmt: skip
DRIVER_ERRORS = (sqlite3.Error, MemoryError, UnicodeDecodeError)
"""What the driver raises; the last one on a damaged file, where not even the error's text is UTF-8."""


def translate(error: BaseException, path: Path) -> TwofoldError:
    """Return the error to raise instead of the driver's."""
    if isinstance(error, OSError):
        return _translate_folder(error, path)
    if isinstance(error, MemoryError):
        return StorageError(f"{path}: there is not enough memory, or a damaged file asks for too much of it")
    if isinstance(error, UnicodeDecodeError):
        return _damaged("text that is not UTF-8", path)
    match _primary_code(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StorageUnavailableError(
                f"{path}: another process has held the write lock for too long; end its transaction and try again"
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return _read_only(path)
        case sqlite3.SQLITE_FULL:
            return _full(path)
        case sqlite3.SQLITE_CANTOPEN if path.parent.is_dir() and not os.access(path.parent, os.W_OK):
            return _read_only(path)
        case sqlite3.SQLITE_CANTOPEN if path.is_dir():
            return StorageUnavailableError(f"{path}: is a folder; name a file in it")
        case sqlite3.SQLITE_CANTOPEN:
            return StorageUnavailableError(f"{path}: cannot be opened; does the folder exist, and may we write there?")
        case sqlite3.SQLITE_IOERR if _is_full(path):
            return _full(path)
        case sqlite3.SQLITE_IOERR:
            return StorageError(f"{path}: the disk failed ({error}); look at the system's log before trying again")
        case sqlite3.SQLITE_TOOBIG:
            return LimitExceededError(f"{path}: SQLite cannot keep a value of that size; nothing was stored")
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return _damaged(error, path)
        case sqlite3.SQLITE_ERROR if "no such table" in str(error):  # it has no code of its own
            return MissingTableError(f"{path}: {error}")
        case 0 if isinstance(error, sqlite3.OperationalError):  # the driver's own: text that is not UTF-8
            return _damaged(error, path)
        case _:
            return StorageError(f"{path}: {error}")


def storage_failed(error: object) -> bool:
    """Return whether the file or the machine is the cause of an error, and not a statement or its values."""
    return isinstance(error, MemoryError) or (
        isinstance(error, sqlite3.Error) and _primary_code(error) in _FAILURES_OF_STORAGE
    )


def commit_failed(error: BaseException, path: Path) -> TwofoldError:
    """Return the error to raise instead of the driver's when COMMIT failed.

    A disk that fails to sync may have kept what it was given. Only codes that SQLite gives before it writes are
    certain.
    """
    if _primary_code(error) in _NOT_COMMITTED:
        return translate(error, path)
    return OutcomeUnknownError(f"{path}: the commit failed: {error}; look, or repeat it with the same ids")


def _translate_folder(error: OSError, path: Path) -> StorageError:
    match error.errno:
        case errno.EROFS | errno.EACCES | errno.EPERM:
            return _read_only(path)
        case errno.ENOSPC | errno.EDQUOT:
            return _full(path)
        case _:
            return StorageUnavailableError(f"{path}: cannot create or open the folder: {error.strerror}")


def _damaged(error: object, path: Path) -> StorageError:
    return StorageError(f"{path}: is not an intact SQLite database ({error}); restore it from a backup")


def _read_only(path: Path) -> ReadOnlyStorageError:
    return ReadOnlyStorageError(
        f"{path}: the file or its folder is read-only for this process; make both writable (SQLite keeps files of its "
        f"own beside it)"
    )


def _full(path: Path) -> StorageFullError:
    return StorageFullError(f"{path}: the disk is full; nothing was stored, free some space and try again")


def _is_full(path: Path) -> bool:
    """SQLite cannot always tell: the index of its write-ahead log grows without asking for space."""
    try:
        return os.statvfs(path.parent).f_bavail * os.statvfs(path.parent).f_frsize < 65_536
    except (OSError, AttributeError):  # Windows has no statvfs
        return False


def _primary_code(error: BaseException) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
