"""What a session must be like for bytes and meanings to be the same for all: set, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from twofold.engines.postgres.address import ALLOW_UNSAFE_SETTINGS
from twofold.engines.postgres.connection import Connection
from twofold.errors import StorageError, UnsafeStorageError

SETTINGS = {
    "client_encoding": "UTF8",  # events and rows are garbled otherwise
    "DateStyle": "ISO",  # dates and times are read in this style
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",  # what a projection's SQL makes of a time must not depend on the role of the worker
    "extra_float_digits": "1",  # floats lose digits below it
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",  # the catalogue's names are compared with the declared ones
    "transform_null_equals": "off",
    "array_nulls": "on",  # a NULL within an array is the text "NULL" otherwise
    "gin_fuzzy_search_limit": "0",  # searches find a random part otherwise
    "default_transaction_isolation": "read committed",  # appends see what was committed while they waited
}
"""Session settings on which bytes or meanings depend."""
_BEARABLE = {"extra_float_digits": {"1", "2", "3"}}
_SHORTENED = {"DateStyle"}  # its second half, the order of day and month, does not matter to ISO
_FOLLOWED = {"client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings", "IntervalStyle"}
"""PgBouncer keeps these for each of its clients, so that they can be set through it."""
_REMEDIES = {
    "fsync": "set it to on: a crash of the machine destroys the database otherwise",
    "full_page_writes": "set it to on: a power cut tears pages otherwise",
    "synchronous_commit": "set it to on for this role and database: a crash loses acknowledged events otherwise",
    "data_checksums": "run pg_checksums --enable on the stopped cluster: damaged pages are not noticed otherwise",
}
_ROLE_OF_REPLICATION = "session_replication_role"
_NAMES = (*SETTINGS, *_REMEDIES, _ROLE_OF_REPLICATION)
_LISTED = ", ".join(f"current_setting('{name}')" for name in _NAMES)
_LOOK = f"""
    SELECT pg_backend_pid(), current_setting('server_encoding'),
        (SELECT nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
         WHERE c.oid = to_regclass('twofold_head')),
        CASE WHEN to_regclass('twofold_events') IS NOT NULL THEN row_security_active('twofold_events') END,
        {_LISTED}""".encode()
_DEFENCES = {
    "row_security": "off",  # a policy that hides rows of a read model is an error then
    "client_connection_check_interval": "2s",  # the server ends the statements of clients that have hung up
}
"""What is set where it can be, and never refused."""
_READ_ONLY = {"default_transaction_read_only": "on"}


class Session(NamedTuple):
    """What a session was found to be like."""

    backend: int
    encoding: str
    schema: str | None
    """Where Twofold's tables are, None before the first migration."""
    hides_rows: bool | None
    settings: Mapping[str, str]

    @property
    def unfit(self) -> dict[str, str]:
        """The settings that must not stay as they are, with the values that they should have."""
        return {name: value for name, value in SETTINGS.items() if not _fits(name, self.settings[name], value)}


async def look(connection: Connection) -> Session:
    """Ask what a session is like.

    Raises:
        psycopg.Error: the server did not answer.
    """
    row: Sequence[Any] | None = await (await connection.execute(_LOOK)).fetchone()
    assert row is not None  # noqa: S101
    backend, encoding, schema, hides_rows, *values = row
    return Session(backend, encoding, schema, hides_rows, dict(zip(_NAMES, values, strict=True)))


def refuse_danger(session: Session) -> None:
    """Refuse a server that may lose what it acknowledged.

    Raises:
        UnsafeStorageError: the text names the setting and the remedy.
    """
    for name, remedy in _REMEDIES.items():
        if session.settings[name] == "off":
            raise UnsafeStorageError(
                f"PostgreSQL runs with {name} = off; {remedy}. `{ALLOW_UNSAFE_SETTINGS}=true` in the URL accepts that"
            )


def refuse_misfits(session: Session) -> None:
    """Refuse a database in which bytes or meanings would differ, and no setting of a session could help.

    Raises:
        UnsafeStorageError: the text names what is wrong and the remedy.
    """
    if session.encoding != "UTF8":
        raise UnsafeStorageError(
            f"the database has the encoding {session.encoding}, in which text does not come back as it was stored; "
            f"create it with ENCODING 'UTF8'"
        )
    if session.settings[_ROLE_OF_REPLICATION] == "replica":
        raise UnsafeStorageError(
            "session_replication_role = replica: the triggers that keep the log append-only do not fire; set it to "
            "origin for this role and database"
        )
    if session.hides_rows:
        raise UnsafeStorageError(
            "row-level security hides rows of twofold_events from this role; a log with gaps makes wrong read models; "
            "drop the policy, or use a role with BYPASSRLS"
        )


async def prepare(connection: Connection, session: Session, *, pooled: bool, read_only: bool) -> None:
    """Give a new session of Twofold's own the settings that it lacks.

    Args:
        connection: the session.
        session: what it was found to be like.
        pooled: whether a pooler stands in between, so that few settings can be made.
        read_only: whether the server refuses each write, where there is no pooler.

    Raises:
        UnsafeStorageError: behind a pooler, a setting can be made for the role only.
        psycopg.Error: the server did not answer.
    """
    wanted = session.unfit
    if pooled:
        if alone := [name for name in wanted if name not in _FOLLOWED]:
            name = alone[0]
            raise UnsafeStorageError(
                f"PostgreSQL runs with {name} = {session.settings[name]!r}, and behind a pooler a session cannot "
                f"change that; ALTER ROLE … SET {name} = '{wanted[name]}'"
            )
    else:
        wanted |= _DEFENCES | (_READ_ONLY if read_only else {})
    if wanted:
        await _set(connection, wanted, local=False)


async def restore(connection: Connection, *, read_only: bool) -> None:
    """Give a session back the settings that the user's SQL may have changed.

    Raises:
        psycopg.Error: the server did not answer.
    """
    await connection.execute(b"RESET ALL")
    await prepare(connection, await look(connection), pooled=False, read_only=read_only)


async def lend_settings(connection: Connection, session: Session) -> None:
    """Set what an append needs in the user's own transaction, until its end or until `give_back_settings`.

    Raises:
        StorageError: one of them cannot be changed within a transaction.
        psycopg.Error: the server did not answer.
    """
    unfit = session.unfit
    unfit.pop(
        "default_transaction_isolation", None
    )  # that of the open transaction counts, which the append itself looks at
    if unfit:
        await _set(connection, unfit, local=True)


async def give_back_settings(connection: Connection, session: Session) -> None:
    """Set what `lend_settings` has changed back to what the user's own SQL expects.

    Raises:
        psycopg.Error: the server did not answer.
    """
    unfit = session.unfit
    unfit.pop("default_transaction_isolation", None)
    if unfit:
        await _set(connection, {name: session.settings[name] for name in unfit}, local=True)


def refuse_another_schema(session: Session, schema: str) -> None:
    """Refuse a session whose `search_path` leads to other tables than those that were opened.

    Raises:
        StorageError: the text names both schemas.
    """
    if session.schema != schema:
        raise StorageError(
            f"this session's search_path leads to Twofold's tables in schema {session.schema!r}, but the log was "
            f"opened in {schema!r}; set the search_path for the role or the database, and the same everywhere"
        )


async def _set(connection: Connection, settings: Mapping[str, str], *, local: bool) -> None:
    calls = ", ".join("set_config(%s, %s, %s)" for _ in settings)
    await connection.execute(
        f"SELECT {calls}".encode(), [value for name, setting in settings.items() for value in (name, setting, local)]
    )


def _fits(name: str, found: str, wanted: str) -> bool:
    if name in _BEARABLE:
        return found in _BEARABLE[name]
    if name in _SHORTENED:
        return found.split(",")[0] == wanted
    return found == wanted
