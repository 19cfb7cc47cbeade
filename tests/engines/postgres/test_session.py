"""What a session depends on is set, or refused by name: bytes and meanings are the same for all."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import psycopg
import pytest
from tests.accounts import Balances
from tests.debian import ProgramMissingError
from tests.engines.postgres.pgbouncer import pgbouncer
from tests.postgres_servers import PostgresServer
from tests.synchronizing import deposited, engine_at, opened, running, write

from twofold import ANY, AwareDatetime, Event, EventStore, Key, Projection, ReadModelSynchronizer, on, open_event_store
from twofold.engines.engine import Engine
from twofold.engines.postgres import PostgresDatabase
from twofold.engines.postgres.session import SETTINGS
from twofold.errors import StorageError, UnsafeStorageError
from twofold.messages.event_query import EventQuery

ODD = {
    "client_encoding": "LATIN1",
    "DateStyle": "German",
    "IntervalStyle": "iso_8601",
    "TimeZone": "America/St_Johns",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "standard_conforming_strings": "off",
    "quote_all_identifiers": "on",
    "transform_null_equals": "on",
    "array_nulls": "off",
    "gin_fuzzy_search_limit": "3",
    "default_transaction_isolation": "serializable",
}
TEXT = "Grüße, 世界 \N{GRINNING FACE} 'a\\b'"
MOMENT = dt.datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=dt.UTC)


@dataclass(frozen=True, kw_only=True)
class Measured(Event):
    id: str
    text: str
    ratio: float
    at: AwareDatetime
    day: dt.date
    amount: Decimal


@dataclass(frozen=True, kw_only=True)
class Measure:
    id: Annotated[str, Key()]
    text: str
    ratio: float
    at: AwareDatetime
    day: dt.date
    amount: Decimal


class Measures(Projection[Measure]):
    name = "measures"
    version = 1

    @on(Measured)
    def measured(self, event: Measured) -> Measure:
        return Measure(**{name: getattr(event, name) for name in Measure.__dataclass_fields__})


MEASURED = Measured(id="m", text=TEXT, ratio=0.1 + 0.2, at=MOMENT, day=MOMENT.date(), amount=Decimal("1.10"))


def execute(url: str, sql: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.encode())


def as_role(url: str, name: str, settings: dict[str, str]) -> str:
    """Return the address for a role that has settings of its own."""
    execute(url, f"DROP ROLE IF EXISTS {name}; CREATE ROLE {name} LOGIN SUPERUSER")
    for setting, value in settings.items():
        execute(url, f"ALTER ROLE {name} SET {setting} = '{value}'")
    return url.replace("postgres@", f"{name}@")


async def written_and_read(engine: Engine) -> list[Measure | None]:
    """Append an event, project it, and return the row, and what a page shows."""
    store = EventStore(engine.log)
    synchronizer = ReadModelSynchronizer(store, engine.read_database)
    measures = synchronizer.add(Measures())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, MEASURED), 30)
    page = await measures.page(where=[("text", "=", TEXT), ("at", "=", MOMENT), ("ratio", "=", 0.1 + 0.2)])
    found = [await measures.get("m"), *page.items]
    await synchronizer.close()
    return found


def test_all_settings_of_a_session_are_tried_out() -> None:
    assert set(ODD) == set(SETTINGS)


@pytest.mark.parametrize("names", [["client_encoding"], ["DateStyle"], list(ODD)], ids=["encoding", "dates", "all"])
async def test_a_role_with_odd_settings_writes_and_reads_the_same_bytes(url: str, names: list[str]) -> None:
    row = Measure(**{name: getattr(MEASURED, name) for name in Measure.__dataclass_fields__})
    async with engine_at(as_role(url, "odd", {name: ODD[name] for name in names})) as (engine, _):
        assert await written_and_read(engine) == [row, row]
        odd = [(each.payload, each.checksum) for each in await engine.log.read(EventQuery.all(), limit=5)]
    async with engine_at(url) as (engine, store):
        store.events.register(Measured)
        assert [recorded.event async for recorded in store.read()] == [MEASURED]
        assert odd == [(each.payload, each.checksum) for each in await engine.log.read(EventQuery.all(), limit=5)]


async def set_to(connection: psycopg.AsyncConnection, name: str, value: str) -> None:
    await connection.execute(f"SET {name} = '{value}'".encode())


async def test_a_setting_that_user_sql_changes_does_not_reach_the_next_user(url: str) -> None:
    async with engine_at(url) as (engine, _):
        for name, value in ODD.items():
            async with engine.read_database.transaction() as transaction:
                await transaction.call(partial(set_to, name=name, value=value))
        names = ", ".join(f"current_setting('{name}')" for name in SETTINGS)
        [row] = await engine.read_database.query(f"SELECT {names}")
        assert [value.split(",")[0] for value in row] == list(SETTINGS.values())


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "EUC_JP", "LATIN1"])
async def test_a_database_in_another_encoding_is_refused_by_name(
    postgres_server: Callable[[int], PostgresServer], encoding: str
) -> None:
    server = postgres_server(18)
    server.execute("DROP DATABASE IF EXISTS other_encoding")
    server.execute(
        f"CREATE DATABASE other_encoding TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    try:
        for suffix in ("", "&allow_unsafe_settings=true"):
            database = PostgresDatabase(server.url("other_encoding") + suffix)
            with pytest.raises(UnsafeStorageError, match=f"encoding {encoding}.*ENCODING 'UTF8'"):
                await database.open()
    finally:
        server.execute("DROP DATABASE other_encoding WITH (FORCE)")


async def test_row_level_security_that_hides_events_is_refused_by_name(url: str) -> None:
    async with engine_at(url):
        pass
    execute(
        url,
        "DROP ROLE IF EXISTS blind; CREATE ROLE blind LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO blind;"
        "ALTER TABLE twofold_events ENABLE ROW LEVEL SECURITY",
    )
    with pytest.raises(UnsafeStorageError, match="row-level security"):
        await PostgresDatabase(url.replace("postgres@", "blind@")).open()


async def test_a_session_whose_triggers_do_not_fire_is_refused_by_name(url: str) -> None:
    with pytest.raises(UnsafeStorageError, match="session_replication_role = replica"):
        await PostgresDatabase(as_role(url, "quiet", {"session_replication_role": "replica"})).open()


async def test_a_search_path_that_changes_while_the_log_is_open_is_refused_by_name(url: str) -> None:
    execute(url, "CREATE SCHEMA other; SET search_path TO other; CREATE TABLE twofold_head ()")
    address = as_role(url, "mover", {})
    async with engine_at(address) as (engine, _):
        execute(url, "ALTER ROLE mover SET search_path TO other")
        execute(url, f"SELECT {CUT} WHERE usename = 'mover'")
        with pytest.raises(StorageError, match=r"search_path leads to Twofold's tables in schema 'other'.*'public'"):
            for _ in range(2):
                await engine.log.head()


CUT = "pg_terminate_backend(pid, 5000) FROM pg_stat_activity"


# -- the user's own connection ------------------------------------------------------------------------------------


@asynccontextmanager
async def joined(url: str, settings: dict[str, str]) -> AsyncIterator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        for name, value in settings.items():
            await set_to(connection, name, value)
        await connection.commit()
        yield connection


IN_A_TRANSACTION = {name: value for name, value in ODD.items() if name != "default_transaction_isolation"}


async def test_an_append_joins_a_session_with_odd_settings_and_leaves_them_there(url: str) -> None:
    async with open_event_store(url) as store, joined(url, IN_A_TRANSACTION) as connection:
        async with connection.transaction():
            await connection.execute("SELECT 1")
            async with store.transaction(connection) as tx:
                tx.append([MEASURED])
            for name, value in IN_A_TRANSACTION.items():
                shown = await (await connection.execute("SELECT current_setting(%s)", (name,))).fetchone()
                assert shown
                assert str(shown[0]).split(",")[0] == value
        assert [recorded.event async for recorded in store.read()] == [MEASURED]


async def test_an_inline_projection_reads_its_rows_on_a_session_with_odd_settings(url: str) -> None:
    async with engine_at(url) as (engine, store), joined(url, IN_A_TRANSACTION) as connection:
        synchronizer = ReadModelSynchronizer(store, engine.read_database)
        balances = synchronizer.add(Balances(), kind="inline")
        await synchronizer.prepare()
        await write(store, opened("ä"))
        async with connection.transaction():
            await connection.execute("SELECT 1")
            async with store.transaction(connection) as tx:
                tx.append([deposited("ä", 5)])
        row = await balances.get("ä")
        assert row is not None
        assert row.changes == 1


async def test_a_connection_to_another_log_is_refused_by_name(url: str, new_database: Callable[[int], str]) -> None:
    other = new_database(18)
    async with open_event_store(url) as store, open_event_store(other), joined(other, {}) as connection:
        await connection.execute("SELECT 1")
        with pytest.raises(StorageError, match="leads to another log"):
            async with store.transaction(connection) as tx:
                tx.append_events("Note-1", "Note", [MEASURED], expected_version=ANY)


async def test_a_search_path_of_the_users_connection_to_elsewhere_is_refused_by_name(url: str) -> None:
    execute(url, "CREATE SCHEMA elsewhere")
    async with open_event_store(url) as store, joined(url, {"search_path": "elsewhere"}) as connection:
        await connection.execute("SELECT 1")
        with pytest.raises(StorageError, match="search_path"):
            async with store.transaction(connection) as tx:
                tx.append([MEASURED])


async def test_a_read_only_transaction_of_the_user_is_refused_by_name(url: str) -> None:
    async with open_event_store(url) as store, await psycopg.AsyncConnection.connect(url) as connection:
        await connection.set_read_only(True)
        await connection.execute("SELECT 1")
        with pytest.raises(StorageError, match="read-only"):
            async with store.transaction(connection) as tx:
                tx.append([MEASURED])


# -- behind a pooler ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pooler(postgres_server: Callable[[int], PostgresServer]) -> Iterator[tuple[str, str]]:
    server = postgres_server(18).folder
    with ExitStack() as stack:
        try:
            folder: Path = stack.enter_context(pgbouncer(server))
        except ProgramMissingError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        yield str(server), str(folder)


@pytest.mark.parametrize("name", ODD)
async def test_behind_a_pooler_a_setting_is_set_or_refused_by_name(
    url: str, pooler: tuple[str, str], name: str
) -> None:
    database = urlsplit(url).path[1:]
    execute(url, f"ALTER DATABASE {database} SET {name} = '{ODD[name]}'")
    async with AsyncOutcome() as outcome, engine_at(url.replace(*pooler)) as (engine, _):
        row = Measure(**{field: getattr(MEASURED, field) for field in Measure.__dataclass_fields__})
        assert await written_and_read(engine) == [row, row]
    assert outcome.error is None or (isinstance(outcome.error, UnsafeStorageError) and name in str(outcome.error))


class AsyncOutcome:
    """Takes note of the error of Twofold's with which a block ends."""

    error: StorageError | None = None

    async def __aenter__(self) -> AsyncOutcome:
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if isinstance(error, StorageError):
            self.error = error
            return True
        return False
