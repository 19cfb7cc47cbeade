"""DuckDB's errors in the framework's words, told apart by their classes.

Every path uses these functions: `translate` for what failed before the commit, when nothing was stored for certain, and
`commit_failed` for a COMMIT.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import duckdb

from twofold.errors import (
    MissingTableError,
    OutcomeUnknownError,
    ReadOnlyStorageError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
    TwofoldError,
)

ABOUT_THE_DATA = (
    duckdb.DataError, duckdb.IntegrityError, duckdb.InvalidInputException, duckdb.NotSupportedError,
    OverflowError, TypeError, UnicodeError,
)  # fmt: skip
"""What the driver raises at a value that cannot be stored."""
_FAILURES_OF_STORAGE = (
    duckdb.IOException, duckdb.FatalException, duckdb.InternalException, duckdb.OutOfMemoryException,
    duckdb.TransactionException, duckdb.ConnectionException, duckdb.InterruptException, MemoryError,
)  # fmt: skip


DRIVER_ERRORS = (duckdb.Error, MemoryError)
"""What the driver raises."""


def translate(error: BaseException, path: Path) -> TwofoldError:
    """Return the error to raise instead of the driver's."""
    match error:
        case duckdb.CatalogException():
            return MissingTableError(f"{path}: {error}")
        case duckdb.OutOfMemoryException() | MemoryError():
            return StorageError(f"{path}: DuckDB ran out of memory ({error}); raise `memory_limit` in its settings")
        case duckdb.IOException() if _is_full(path):
            return StorageFullError(f"{path}: the disk is full; nothing was stored, free some space and try again")
        case _:
            return StorageError(f"{path}: {error}")


def commit_failed(error: BaseException, path: Path) -> TwofoldError:
    """Return the error to raise instead of the driver's when COMMIT failed: a failing disk may have kept the commit.

    Only what DuckDB finds in the data before it writes is certain.
    """
    if isinstance(error, duckdb.IntegrityError | duckdb.DataError):
        return translate(error, path)
    return OutcomeUnknownError(f"{path}: the commit failed: {error}; look before going on")


def translate_opening(error: BaseException, path: Path) -> TwofoldError:
    """Return the error to raise when a file cannot be opened."""
    if isinstance(error, duckdb.IOException) and _is_locked(path):
        return StorageUnavailableError(
            f"{path}: another process has it open, and DuckDB files have one owner. Let that process write snapshots "
            f"(`snapshots=` of its DuckDbReadDatabase) and read those here, with ParquetSnapshots. ({error})"
        )
    if path.is_dir() or not path.parent.is_dir():
        return StorageUnavailableError(f"{path}: cannot be opened as a file; name a file in a folder that exists")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        return ReadOnlyStorageError(f"{path}: the file or its folder is read-only for this process; make both writable")
    if isinstance(error, OSError):
        return StorageUnavailableError(f"{path}: cannot create the folder: {error.strerror}")
    if path.exists() and not isinstance(error, duckdb.OutOfMemoryException):
        return StorageError(
            f"{path}: is not an intact DuckDB database ({error}); remove it, and its read models are built again"
        )
    return translate(error, path)


def storage_failed(error: object) -> bool:
    """Return whether the file or the machine is the cause of an error, and not a statement or its values."""
    return isinstance(error, _FAILURES_OF_STORAGE)


def _is_locked(path: Path) -> bool:
    """Return whether another process holds DuckDB's lock; the driver has no code for that.

    Closing a file gives up this process's locks on it: ask only if this process does not have it open.
    """
    try:
        import fcntl

        with path.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows
        return False
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EAGAIN) and os.access(path, os.W_OK)
    return False


def _is_full(path: Path) -> bool:
    try:
        return os.statvfs(path.parent).f_bavail * os.statvfs(path.parent).f_frsize < 65_536
    except (OSError, AttributeError):  # Windows has no statvfs
        return False
