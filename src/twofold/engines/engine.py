"""From a database URL to an event log and a database for read models.

The engines of Twofold's own are found by the URL's scheme, those of other packages by an entry point of that name:

    [project.entry-points."twofold.engines"]
    cockroach = "twofold_cockroach:connect"
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol

from twofold.arguments import check_instance
from twofold.engines.archive_folder import archive_folder
from twofold.engines.looking import is_looking
from twofold.engines.urls import scheme_of, without_secrets
from twofold.log.event_store import EventStore
from twofold.log.keys.keyring import KeyRing
from twofold.log.keys.master_key import MasterKeys, MasterKeySource
from twofold.options import Options
from twofold.ports.event_log import EventLog
from twofold.ports.read_database import REPLICATION, ReadDatabase

GROUP = "twofold.engines"
"""The group of entry points under which other packages register theirs. stored: in their metadata."""


def scratch_database() -> ReadDatabase:
    """Return a read database that this process has for itself; it is made by opening it, and closing it deletes it."""
    from twofold.engines.sqlite.read_models.scratch import ScratchDatabase

    return ScratchDatabase()


class Engine(NamedTuple):
    """What a database offers to an application: `Application(engine=Engine(log, read_database))`."""

    log: EventLog
    read_database: ReadDatabase
    scratch: Callable[[], ReadDatabase] = scratch_database
    """Gives a database for the rows of projections that are folded on demand."""


class Connect(Protocol):
    """What an entry point names."""

    def __call__(self, url: str, *, migrate: bool, options: Options) -> Engine:
        """Return the engine behind a URL, not yet opened.

        Args:
            url: where.
            migrate: whether opening makes what is missing and brings the schema up to date.
            options: what can be tuned.

        Raises:
            ValueError: the URL is malformed, or has an unknown option.
        """


def check_address(name: str, url: object) -> None:
    """Refuse what is no URL of a database, or of no engine that there is; None will do.

    Raises:
        TypeError: it is no text.
        ValueError: it names no known engine.
    """
    if url is None:
        return
    if not isinstance(url, str):
        raise TypeError(f"`{name}` is a text, such as sqlite:///orders.db, not {url!r}")
    scheme = scheme_of(url)
    if scheme not in _BUILT_IN and not entry_points(group=GROUP, name=scheme):
        raise ValueError(f"`{name}` names {_no_engine(url)}")


def open_event_store(
    url: str,
    *,
    keys_url: str | None = None,
    master_key: MasterKeySource | MasterKeys | None = None,
    options: Options | None = None,
) -> EventStore:
    """Return the event store at a URL: `sqlite:///orders.db`, `postgresql://…` or `memory://`.

    Args:
        url: where the log is.
        keys_url: where the keys of personal fields are.
        master_key: what wraps them; by default the environment says it.
        options: all that can be tuned.

    Raises:
        ValueError: the URL names no known engine, no file, or an unknown option. The text never shows a password.
        ModuleNotFoundError: the engine's driver is not installed; the text names the extra.
    """
    if options is not None:
        check_instance("options", options, Options)
    check_instance("url", url, str, "such as sqlite:///orders.db")
    check_address("url", url)
    options = options or Options()
    keys = connect_keys(url, keys_url, master_key, options=options)
    return EventStore(connect(url, options=options).log, options=options.log, keys=keys)


def connect(url: str, *, migrate: bool = True, options: Options | None = None) -> Engine:
    """Return the log and the read database behind a URL: `sqlite:///orders.db`, `postgresql://…` or `memory://`.

    A SQLite path with three slashes is relative, with four absolute.

    Args:
        url: where.
        migrate: whether opening makes what is missing and brings the schema up to date. Operators' tools look before.
        options: what can be tuned.

    Raises:
        ValueError: the URL names no known engine, no file, or an unknown option. The text never shows a password.
        ModuleNotFoundError: the engine's driver is not installed; the text names the extra.
    """
    scheme = scheme_of(url)
    built_in = _BUILT_IN.get(scheme)
    if built_in is None:
        built_in = _from_other_package(scheme)
    if built_in is None:
        raise ValueError(_no_engine(url))
    return built_in(url, migrate=migrate and not is_looking(), options=options or Options())


def connect_replica(url: str, *, options: Options | None = None) -> ReadDatabase:
    """Return what reads from a streaming standby of a PostgreSQL database, which needs nothing but its address.

    Raises:
        ValueError: the URL names no engine that has replicas.
        ModuleNotFoundError: the engine's driver is not installed; the text names the extra.
    """
    if _BUILT_IN.get(scheme_of(url)) is not _postgres:
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


def connect_keys(
    url: str | None,
    keys_url: str | None,
    master_key: MasterKeySource | MasterKeys | None = None,
    *,
    options: Options | None = None,
) -> KeyRing | None:
    """Return the keys of personal fields; None if no store is named.

    A log in memory has its keys in memory, too, wherever the extra `privacy` is installed.

    Args:
        url: of the log.
        keys_url: where the keys are: a SQLite file of their own, or a PostgreSQL database, where they have a schema of
            their own.
        master_key: what wraps them; by default the environment says it.
        options: what can be tuned.

    Raises:
        ValueError: the URL names no engine that keeps keys, or the file of the log.
        TypeError: an argument is of another type.
        ModuleNotFoundError: the engine's driver is not installed.
    """
    check_address("keys_url", keys_url)
    privacy = (options or Options()).privacy
    if keys_url is None and (url is None or scheme_of(url) != "memory"):
        if master_key is not None:
            raise ValueError('`master_key` wraps keys that have no place; name one: keys_url="sqlite:///keys.db"')
        return None
    if keys_url is None and master_key is None and find_spec("cryptography") is None:
        return None  # an application without personal fields needs no extra
    masters = master_key if isinstance(master_key, MasterKeys) else MasterKeys(master_key)
    scheme = scheme_of(keys_url or "memory")
    if scheme == "memory":
        from twofold.engines.sqlite.keys import sqlite_key_store

        own = masters if master_key is not None else MasterKeys(os.urandom(32))
        return KeyRing(sqlite_key_store(None, timeout=privacy.timeout), own, privacy)
    assert keys_url is not None  # noqa: S101
    if scheme == "sqlite":
        from twofold.engines.sqlite import address
        from twofold.engines.sqlite.keys import sqlite_key_store

        path = address.parse(keys_url)
        if url is not None and scheme_of(url) == "sqlite" and address.parse(url).resolve() == path.resolve():
            raise ValueError(f"{keys_url} is the log's own file; its backups would hold the keys: name another file")
        return KeyRing(sqlite_key_store(path, timeout=privacy.timeout), masters, privacy)
    if scheme in ("postgresql", "postgres"):
        _driver()
        from twofold.engines.postgres.keys import postgres_key_store

        return KeyRing(postgres_key_store(keys_url, timeout=privacy.timeout), masters, privacy)
    raise ValueError(f"{without_secrets(keys_url)!r} names no engine that keeps keys; use SQLite or PostgreSQL")


def _memory(url: str, *, migrate: bool, options: Options) -> Engine:
    from twofold.engines.memory import MemoryDatabase, MemoryEventLog, MemoryReadDatabase

    if url != "memory://":
        raise ValueError(f"{url!r} has a name or an option, and a log in memory has neither; write memory://")
    database = MemoryDatabase()
    return Engine(MemoryEventLog(database), MemoryReadDatabase(database), MemoryReadDatabase)


def _sqlite(url: str, *, migrate: bool, options: Options) -> Engine:
    from twofold.engines.sqlite import SqliteDatabase, SqliteEventLog, SqliteReadDatabase, address

    database = SqliteDatabase(address.parse(url), migrate=migrate, read_only=is_looking(), options=options.sqlite)
    return Engine(
        SqliteEventLog(database, archive_folder(options.log.archive, database.path)), SqliteReadDatabase(database)
    )


def _postgres(url: str, *, migrate: bool, options: Options) -> Engine:
    postgres = _driver()
    database = postgres.PostgresDatabase(url, options=options.postgres, migrate=migrate, read_only=is_looking())
    log = postgres.PostgresEventLog(database, archive_folder(options.log.archive))
    return Engine(log, postgres.PostgresReadDatabase(database))


_BUILT_IN: dict[str, Connect] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "postgresql": _postgres,
    "postgres": _postgres,
}


def _no_engine(url: str) -> str:
    return (
        f"no engine for {without_secrets(url)!r}; use sqlite:///path/to/file.db or postgresql://user@host/database, or "
        f"install the package that registers {scheme_of(url)!r} as an entry point of {GROUP}"
    )


def _from_other_package(scheme: str) -> Connect | None:
    for point in entry_points(group=GROUP, name=scheme):
        connect_: Connect = point.load()
        return connect_
    return None


def _driver() -> Any:
    try:
        from twofold.engines import postgres
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("PostgreSQL needs its driver: pip install 'twofold[postgres]'") from error
    return postgres
