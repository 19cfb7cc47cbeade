"""SQLite's errors in the framework's words, told apart by result code (https://sqlite.org/rescode.html)."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from twofold.errors import ReadOnlyStorageError, StorageError, StorageFullError, StorageUnavailableError


def translate(error: sqlite3.Error | OSError, path: Path) -> StorageError:
    """Return the error to raise instead of the driver's."""
    if isinstance(error, OSError):
        return StorageUnavailableError(f"{path}: cannot create or open the folder: {error.strerror}")
    match _primary_code(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StorageUnavailableError(
                f"{path}: another process has held the write lock for too long; end its transaction and try again"
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return ReadOnlyStorageError(f"{path}: the file or its folder is read-only for this process")
        case sqlite3.SQLITE_FULL:
            return StorageFullError(f"{path}: the disk is full; nothing was stored, free some space and try again")
        case sqlite3.SQLITE_CANTOPEN:
            return StorageUnavailableError(f"{path}: cannot be opened; does the folder exist, and may we write there?")
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return StorageError(f"{path}: is not an intact SQLite database ({error}); restore it from a backup")
        case _:
            return StorageError(f"{path}: {error}")


def may_have_committed(error: sqlite3.Error) -> bool:
    """Return whether a COMMIT that failed like this may yet be found committed."""
    return _primary_code(error) == sqlite3.SQLITE_IOERR


def _primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
