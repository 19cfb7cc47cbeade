"""One classification of errors: no event is to blame for the server, the way to it, or the driver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from tests.accounts import Balances, Deposited, Opened
from tests.synchronizing import QUICK, deposited, engine_at, opened, running, until, write

from twofold import ReadModelSynchronizer, RecordedEvent, SqlProjection
from twofold.engines.postgres.errors import connection_is_lost, is_about_the_data, server_failed, translate
from twofold.errors import LimitExceededError, StorageError

OF_THE_DRIVER = [
    psycopg.ProgrammingError("the query has 1 placeholder but 2 parameters were passed"),
    psycopg.DataError("can't parse timestamp '29.02.2024': unexpected DateStyle"),
    psycopg.NotSupportedError("can't parse interval with IntervalStyle iso_8601"),
    psycopg.InternalError("bad poll status"),
    psycopg.InterfaceError("the cursor is closed"),
    psycopg.OperationalError("consuming input failed"),
    psycopg.DatabaseError("unknown"),
    psycopg.Error("unknown"),
]


@pytest.mark.parametrize("error", OF_THE_DRIVER, ids=lambda error: type(error).__name__)
def test_the_drivers_own_errors_are_about_no_data(error: psycopg.Error) -> None:
    assert server_failed(error)
    assert not is_about_the_data(error)
    assert isinstance(translate(error), StorageError)


@pytest.mark.parametrize(
    ("state", "is_theirs"),
    [("22001", True), ("22P02", True), ("23505", True), ("54000", True), ("42703", False), ("25006", False)],
)
def test_only_the_server_says_that_values_are_to_blame(state: str, *, is_theirs: bool) -> None:
    error = psycopg.errors.lookup(state)()
    assert is_about_the_data(error) is is_theirs
    assert isinstance(translate(error), LimitExceededError) is (state[:2] in {"22", "54"})


@pytest.mark.parametrize("state", ["57P01", "57P02", "57P03", "57P05", "25P03", "08006", "08P01"])
def test_a_connection_that_the_server_ends_is_lost(state: str) -> None:
    assert connection_is_lost(psycopg.errors.lookup(state)())


class Broken(SqlProjection):
    """Its SQL is used in a way that the driver itself refuses, until it is mended."""

    name = "broken"
    tables = ("broken",)

    def __init__(self, refused: Callable[[Any], Any]) -> None:
        self.refused = refused
        self.tries: list[int] = []  # shared with the copies that work on one generation each
        self.mended = asyncio.Event()

    def handles(self) -> tuple[type, ...]:
        return (Opened, Deposited)

    def key(self, event: Opened | Deposited) -> str:
        return event.account

    async def create(self, connection: Any) -> None:
        await connection.execute(f"CREATE TABLE {self.table('broken')} (account text, n integer)")

    async def apply(self, event: Opened | Deposited, connection: Any, recorded: RecordedEvent[Any]) -> None:
        self.tries.append(recorded.position)
        if not self.mended.is_set():
            await self.refused(connection)
        await connection.execute(f"INSERT INTO {self.table('broken')} VALUES (%s, 1)", [event.account])


REFUSED: dict[str, Callable[[Any], Any]] = {
    "too many parameters": lambda connection: connection.execute("SELECT %s", [1, 2]),
    "a type that is not known": lambda connection: connection.execute("SELECT %s", [object()]),
    "a text that the protocol lacks": lambda connection: connection.execute("SELECT %s", ["a\0b"]),
    "autocommit in a transaction": lambda connection: connection.set_autocommit(connection.autocommit ^ True),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED.keys())
async def test_what_the_driver_refuses_parks_no_event(url: str, refused: Callable[[Any], Any]) -> None:
    async with engine_at(url) as (engine, store):
        synchronizer = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
        broken = Broken(refused)
        synchronizer.add(broken)
        position = await write(store, opened("a"), deposited("a"))

        async def has_tried_often() -> bool:
            return len(broken.tries) > 4

        async with running(synchronizer):
            await until(has_tried_often)
            assert await synchronizer.control("broken").parked() == []
            broken.mended.set()
            await synchronizer.wait(position, 30)
            assert await engine.read_database.query("SELECT count(*) FROM broken") == [(2,)]
            assert await synchronizer.control("broken").parked() == []
        await synchronizer.close()


async def test_a_role_that_owns_nothing_starts_runs_projections_and_appends(url: str) -> None:
    async with engine_at(url) as (engine, store):
        synchronizer = ReadModelSynchronizer(store, engine.read_database)
        synchronizer.add(Balances())
        await synchronizer.prepare()
        await synchronizer.close()
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(
            "DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN;"
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO guest"
        )
    async with engine_at(url.replace("postgres@", "guest@")) as (engine, store):
        synchronizer = ReadModelSynchronizer(store, engine.read_database)
        balances = synchronizer.add(Balances())
        await synchronizer.prepare()
        async with running(synchronizer):
            await synchronizer.wait(await write(store, opened("a"), deposited("a")), 30)
            assert await balances.get("a") is not None
            [status] = await synchronizer.status()
            assert status.error is None
        await synchronizer.close()
