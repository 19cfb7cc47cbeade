"""What comes over the wire is taken for an answer only when the server is ready again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio

from twofold.engines.postgres import PostgresDatabase
from twofold.engines.postgres.wire.arrays import TEXT, Binary, int4, read_integer
from twofold.engines.postgres.wire.connection import Wire


@pytest_asyncio.fixture(params=[True, False], ids=["prepared", "behind a pooler"])
async def wire(url: str, request: pytest.FixtureRequest) -> AsyncIterator[Wire]:
    wire = Wire(await PostgresDatabase(url).connect(), prepare=request.param)
    yield wire
    await wire.close()


async def test_a_row_comes_in_the_binary_format(wire: Wire) -> None:
    for number in (5, -7, None):
        assert list(map(read_integer, await wire.call(b"SELECT $1, 3", [int4(number)]))) == [number, 3]


async def test_an_error_is_the_drivers_and_the_connection_goes_on(wire: Wire) -> None:
    for _ in range(2):
        with pytest.raises(psycopg.errors.DivisionByZero):
            await wire.call(b"SELECT 1 / $1", [int4(0)])
        assert list(map(read_integer, await wire.call(b"SELECT 6 / $1", [int4(2)]))) == [3]


async def test_a_commit_that_fails_behind_its_row_is_an_error(url: str, wire: Wire) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("CREATE TABLE strict (n integer UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    insert = b"INSERT INTO strict VALUES ($1) RETURNING n"
    assert list(map(read_integer, await wire.call(insert, [int4(1)]))) == [1]
    with pytest.raises(psycopg.errors.UniqueViolation):
        await wire.call(insert, [int4(1)])


async def test_a_backend_that_is_terminated_is_a_lost_connection_also_while_nobody_waits(url: str, wire: Wire) -> None:
    pid = read_integer((await wire.call(b"SELECT pg_backend_pid(), $1", [int4(1)]))[0])
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    with pytest.raises(psycopg.OperationalError):
        await wire.call(b"SELECT $1", [int4(1)])
    assert wire.connection.closed


async def test_values_larger_than_any_buffer_go_through(wire: Wire) -> None:
    row = await wire.call(b"SELECT length($1)", [Binary(b"x" * 20_000_000, TEXT)])
    assert read_integer(row[0]) == 20_000_000
