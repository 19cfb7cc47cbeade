"""The server's errors in the framework's words, told apart by SQLSTATE (PostgreSQL manual, appendix A)."""

from __future__ import annotations

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from twofold.errors import (
    LimitExceededError,
    MissingTableError,
    ReadOnlyStorageError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
    TwofoldError,
)

UNIQUE_VIOLATION = "23505"
STATEMENT_IS_GONE = "26000"
STANDBY_GAVE_UP = {"01000", "57P01"}
"""Warnings: the wait for a synchronous standby was ended from outside."""
_AWAY = {"57P01", "57P02", "57P03", "57P05", "25P03"}  # shutting down, crashed, starting up, idle for too long
_ROLLED_BACK = {"40001", "40P01"}  # serialization failure, deadlock
_POOL_ERRORS = (PoolTimeout, PoolClosed, TooManyRequests)


def translate(error: psycopg.Error) -> TwofoldError:
    """Return the error to raise instead of the driver's."""
    text, state = error.diag.message_primary or str(error).strip(), error.sqlstate or ""
    if connection_is_lost(error):
        return StorageUnavailableError(f"PostgreSQL cannot be reached; check address, user and password: {text}")
    if not state and isinstance(error, psycopg.DataError):  # the driver itself refuses the value, such as a NUL
        return LimitExceededError(f"PostgreSQL cannot store such a value: {text}")
    match state[:2]:
        case "28":
            return StorageUnavailableError(f"PostgreSQL refuses the credentials: {text}")
        case "22" | "54":
            return LimitExceededError(f"PostgreSQL cannot store such a value: {text}")
        case "3D" | "3F":
            return StorageUnavailableError(f"the database or schema does not exist, create it first: {text}")
    match state:
        case "53100":
            return StorageFullError(f"the disk of PostgreSQL is full; free some space and try again: {text}")
        case "53300" | "53400":
            return StorageUnavailableError(f"PostgreSQL has no connection left; raise max_connections: {text}")
        case "55P03" | "57014":
            return StorageUnavailableError(f"PostgreSQL gave up waiting; see lock_timeout, statement_timeout: {text}")
        case "25006":
            return ReadOnlyStorageError(f"PostgreSQL is read-only here, a standby or by its settings: {text}")
        case "42501":
            return ReadOnlyStorageError(f"this role may not do that; GRANT it what Twofold's tables need: {text}")
        case "42P01":
            return MissingTableError(f"a table is missing; Twofold's own are made by open(): {text}")
        case "42883":
            return StorageError(f"Twofold's tables are missing; call open() first, which creates them: {text}")
        case "TF002":
            return StorageError(f"appends see what was committed while they waited; use READ COMMITTED: {text}")
        case "25P02":
            return StorageError(f"a statement of the transaction has failed before; nothing of it is stored: {text}")
        case "XX001" | "XX002":
            return StorageError(f"PostgreSQL reports damaged data; restore it from a backup: {text}")
    return StorageError(f"PostgreSQL failed: {text} (SQLSTATE {state or 'none'})")


def connection_is_lost(error: psycopg.Error) -> bool:
    """Return whether the connection is gone, so that a COMMIT that was under way may have succeeded."""
    if isinstance(error, _POOL_ERRORS):
        return True
    state = error.sqlstate
    if state is None:  # the driver itself noticed
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return state.startswith("08") or state in _AWAY


def server_failed(error: object) -> bool:
    """Return whether the server or the way to it is the cause of an error, and not a statement or its values."""
    if not isinstance(error, psycopg.Error):
        return False
    # no resources, an operator, a failing system, a deadlock, a lock that is not to be had, read-only, damaged
    state = error.sqlstate or ""
    return connection_is_lost(error) or state[:2] in {"53", "57", "58", "40", "XX"} or state in {"55P03", "25006"}


def was_rolled_back(error: psycopg.Error) -> bool:
    """Return whether the transaction was rolled back for certain, by no fault of its own: it may simply run again."""
    return error.sqlstate in _ROLLED_BACK


def is_about_the_data(error: psycopg.Error) -> bool:
    """Return whether the values themselves were refused, so that only the append that brought them is to blame."""
    return (error.sqlstate or "")[:2] in {"22", "23", "54"} or isinstance(error, psycopg.DataError)
