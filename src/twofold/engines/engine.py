"""From a database URL to an event log and a database for read models."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from twofold.engines.memory import MemoryEventLog
from twofold.engines.urls import scheme_of, without_secrets
from twofold.log.event_store import EventStore
from twofold.options import Options
from twofold.ports.event_log import EventLog
from twofold.ports.read_database import REPLICATION, ReadDatabase

_POSTGRES = ("postgresql", "postgres")


class Engine(NamedTuple):
    """What a database offers to an application."""

    log: EventLog
    read_database: ReadDatabase


def open_event_store(url: str, *, options: Options | None = None) -> EventStore:
    """Return the event store at a URL: `sqlite:///orders.db`, `postgresql://…` or `memory://`.

    Raises:
        ValueError: the URL names no known engine.
    """
    return EventStore(MemoryEventLog() if url == "memory://" else connect(url, options=options).log)


def scratch_database() -> ReadDatabase:
    """Return a read database that this process has for itself; it is made by opening it, and closing it deletes it."""
    from twofold.engines.sqlite.read_models.scratch import ScratchDatabase

    return ScratchDatabase()


def connect(url: str, *, migrate: bool = True, options: Options | None = None) -> Engine:
    """Return the log and the read database behind a URL: `sqlite:///orders.db` or `postgresql://…`.

    A SQLite path with three slashes is relative, with four absolute.

    Args:
        url: where.
        migrate: whether opening makes what is missing and brings the schema up to date. Operators' tools look before.
        options: of the engines.

    Raises:
        ValueError: the URL names no known engine, no file, or an unknown option. The text never shows a password.
        ModuleNotFoundError: the engine's driver is not installed; the text names the extra.
    """
    scheme = scheme_of(url)
    if scheme == "sqlite":
        return _sqlite(url, migrate)
    if scheme in _POSTGRES:
        return _postgres(url, migrate, options or Options())
    raise ValueError(
        f"no engine for {without_secrets(url)!r}; use sqlite:///path/to/file.db or postgresql://user@host/database"
    )


def connect_replica(url: str, *, options: Options | None = None) -> ReadDatabase:
    """Return what reads from a streaming standby of a PostgreSQL database, which needs nothing but its address.

    Raises:
        ValueError: the URL names no engine that has replicas.
        ModuleNotFoundError: the engine's driver is not installed; the text names the extra.
    """
    if scheme_of(url) not in _POSTGRES:
        raise ValueError(
            f"{without_secrets(url)!r} names no replica; only PostgreSQL has them: postgresql://user@host/database"
        )
    postgres = _driver()
    # It is the primary that acknowledges events, and that migrates.
    database = postgres.PostgresDatabase(
        url, options=(options or Options()).postgres, migrate=False, patience=REPLICATION, allow_unsafe_settings=True
    )
    replica: ReadDatabase = postgres.PostgresReadDatabase(database)
    return replica


def _sqlite(url: str, migrate: bool) -> Engine:
    from twofold.engines.sqlite import SqliteDatabase, SqliteEventLog, SqliteReadDatabase

    path = unquote(urlsplit(url).path).removeprefix("/")
    if not path or path == ":memory:":
        raise ValueError(f"{url!r} names no file; a database that several connections share needs one")
    database = SqliteDatabase(path, migrate=migrate)
    return Engine(SqliteEventLog(database), SqliteReadDatabase(database))


def _postgres(url: str, migrate: bool, options: Options) -> Engine:
    postgres = _driver()
    database = postgres.PostgresDatabase(url, options=options.postgres, migrate=migrate)
    return Engine(postgres.PostgresEventLog(database), postgres.PostgresReadDatabase(database))


def _driver() -> Any:
    try:
        from twofold.engines import postgres
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("PostgreSQL needs its driver: pip install 'twofold[postgres]'") from error
    return postgres
