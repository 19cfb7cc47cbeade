"""The one classification of PostgreSQL's errors, by SQLSTATE (PostgreSQL manual, appendix A), used on every path."""

from __future__ import annotations

import psycopg

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
_AWAY = {"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"}  # shutting down, crashed, starting up, idle for too long
_ROLLED_BACK = {"40001", "40P01"}  # serialization failure, deadlock
_NO_CONNECTION_LEFT = {"53300", "53400"}


def translate(error: psycopg.Error) -> TwofoldError:
    """Return the error to raise instead of the driver's."""
    text, state = error.diag.message_primary or str(error).strip(), error.sqlstate or ""
    if _no_connection_left(error):
        return StorageUnavailableError(
            f"PostgreSQL has no connection left for this role: {text}; raise CONNECTION LIMIT of the role or the "
            f"database, or max_connections, or lower `PostgresOptions.connections`"
        )
    if connection_is_lost(error):
        return StorageUnavailableError(f"PostgreSQL cannot be reached; check address, user and password: {text}")
    if not state:  # the driver itself refuses a statement, or an answer: the session is unfit, or the code is wrong
        return StorageError(f"the driver of PostgreSQL refused a statement or its answer: {text}")
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
    return StorageError(f"PostgreSQL failed: {text} (SQLSTATE {state})")


def connection_is_lost(error: psycopg.Error) -> bool:
    """Return whether the connection is gone, so that a COMMIT that was under way may have succeeded."""
    state = error.sqlstate
    if state is None:  # the driver itself noticed
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return state.startswith("08") or state in _AWAY


def _no_connection_left(error: psycopg.Error) -> bool:
    """Return whether the server refuses a connection since there are too many: of the role, the database or in all.

    Only a remedy depends on it: while connecting, libpq tells no SQLSTATE, and the text is in the server's language.
    """
    refused = isinstance(error, psycopg.OperationalError) and error.sqlstate is None
    return error.sqlstate in _NO_CONNECTION_LEFT or (
        refused and any(text in str(error) for text in ("too many", "connection slots", "no more connections"))
    )


def server_failed(error: object) -> bool:
    """Return whether the server, the way to it, or the driver is the cause of an error, and not the values of a row.

    The driver's own errors have no SQLSTATE: it could not read an answer, or was used in a wrong way. No event is to
    blame for that.
    """
    if not isinstance(error, psycopg.Error):
        return False
    # no resources, an operator, a failing system, a deadlock, a lock that is not to be had, read-only, damaged
    state = error.sqlstate or ""
    return (
        not state
        or connection_is_lost(error)
        or state[:2] in {"53", "57", "58", "40", "XX"}
        or (state in {"55P03", "25006", "42501"})
    )


def was_rolled_back(error: psycopg.Error) -> bool:
    """Return whether the transaction was rolled back for certain, by no fault of its own: it may simply run again."""
    return error.sqlstate in _ROLLED_BACK


def is_about_the_data(error: psycopg.Error) -> bool:
    """Return whether the server refused the values themselves, so that what brought them is to blame."""
    return (error.sqlstate or "")[:2] in {"22", "23", "54"}
