"""A role that may have too few connections is told so at once, by name, instead of waiting for one that never comes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import NoReturn
from urllib.parse import urlsplit

import psycopg
import pytest
from tests.debian import ProgramMissingError
from tests.engines.postgres.pgbouncer import pgbouncer
from tests.postgres_servers import PostgresServer
from tests.synchronizing import PATIENCE, engine_at

from twofold import Application
from twofold.engines.postgres import PostgresDatabase, PostgresEventLog
from twofold.engines.postgres.connections import Connections
from twofold.errors import StorageUnavailableError
from twofold.options import Options, PostgresOptions
from twofold.ports.event_log import Appended
from twofold.testing.samples import append_of, new_event

OPTIONS = PostgresOptions(answer_timeout=2.0)
SOON = 10.0


def execute(url: str, sql: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.encode())


@contextmanager
def soon() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < SOON


async def clerk(url: str, limit: int) -> str:
    """Return the address for a role that may have so many connections."""
    async with engine_at(url):
        pass
    execute(
        url,
        f"DROP ROLE IF EXISTS clerk; CREATE ROLE clerk LOGIN CONNECTION LIMIT {limit};"
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO clerk",
    )
    return url.replace("postgres@", "clerk@")


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_a_role_with_too_few_connections_is_told_so_at_the_start(url: str, limit: int) -> None:
    address = await clerk(url, limit)
    with soon(), pytest.raises(StorageUnavailableError, match=f"role clerk takes {limit} .*ALTER ROLE clerk"):
        await Application(address).start()


async def test_a_database_with_too_few_connections_is_told_so_at_the_start(url: str) -> None:
    address = await clerk(url, -1)
    name = urlsplit(url).path[1:]
    execute(url, f"ALTER DATABASE {name} CONNECTION LIMIT 2")
    try:
        with soon(), pytest.raises(StorageUnavailableError, match=f"database {name} takes 2"):
            await Application(address).start()
    finally:
        execute(url, f"ALTER DATABASE {name} CONNECTION LIMIT -1")


async def test_with_the_fewest_connections_all_goes_on_and_the_pool_does_with_less(url: str) -> None:
    address = await clerk(url, 4)
    async with engine_at(address, Options(postgres=OPTIONS)) as (engine, _):
        outcomes = await asyncio.gather(*(engine.log.append(append_of(new_event("Note-1"))) for _ in range(20)))
        assert all(isinstance(outcome, Appended) for outcome in outcomes)
        assert await engine.log.wait(0, PATIENCE) == 20
        heads = await asyncio.gather(*(engine.log.head() for _ in range(40)))
        assert set(heads) == {20}


async def test_a_server_with_no_connection_left_says_so_at_once(own_server: Callable[..., PostgresServer]) -> None:
    server = own_server(settings={"max_connections": "12", "superuser_reserved_connections": "2"})
    server.execute("CREATE ROLE clerk LOGIN; GRANT ALL ON SCHEMA public TO clerk")
    url = server.url("postgres", "clerk")
    async with AsyncExitStack() as taken:
        for _ in range(10):
            await taken.enter_async_context(await psycopg.AsyncConnection.connect(url))
        with soon(), pytest.raises(StorageUnavailableError, match=r"no connection left.*max_connections"):
            await PostgresDatabase(url, options=OPTIONS).open()
    database = PostgresDatabase(url, options=OPTIONS)
    await database.open()
    async with AsyncExitStack() as taken:
        with pytest.raises(psycopg.OperationalError):
            while True:
                await taken.enter_async_context(await psycopg.AsyncConnection.connect(url))
        with soon(), pytest.raises(StorageUnavailableError, match="no connection left"):
            async with database.connection(), database.connection():
                pass
    await database.close()


async def test_when_all_connections_are_in_use_a_caller_is_told_so_within_the_bound(url: str) -> None:
    database = PostgresDatabase(url, options=PostgresOptions(connections=2, answer_timeout=1.0))
    await database.open()
    async with database.connection(), database.connection():
        with soon(), pytest.raises(StorageUnavailableError, match=r"all 2 connections .* are in use.*raise"):
            async with database.connection():
                pass
    async with database.connection() as connection:
        await connection.execute("SELECT 1")
    await database.close()


async def test_a_connection_that_comes_back_goes_to_who_waits_first(url: str) -> None:
    database = PostgresDatabase(url, options=PostgresOptions(connections=1))
    await database.open()
    order: list[int] = []

    async def use(number: int) -> None:
        async with database.connection() as connection:
            order.append(number)
            await connection.execute("SELECT 1")

    async with database.connection():
        users = [asyncio.create_task(use(number)) for number in range(5)]
        await asyncio.sleep(0)
        users[2].cancel()
    await asyncio.gather(*users, return_exceptions=True)
    assert order == [0, 1, 3, 4]
    await database.close()


async def test_who_is_refused_another_connection_takes_the_one_that_came_back_meanwhile(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = PostgresDatabase(url, options=PostgresOptions(connections=2, answer_timeout=2.0))
    await database.open()
    is_asked, is_refused, refusals = asyncio.Event(), asyncio.Event(), 0

    async def refuse(*_: object) -> NoReturn:
        nonlocal refusals
        refusals += 1
        is_asked.set()
        await is_refused.wait()
        raise StorageUnavailableError("no connection left")

    async def use() -> None:
        async with database.connection() as connection:
            await connection.execute("SELECT 1")

    async with database.connection():
        monkeypatch.setattr(Connections, "_new", refuse)
        user = asyncio.create_task(use())
        await is_asked.wait()
    is_refused.set()
    await user
    async with database.connection():
        users = [asyncio.create_task(use()) for _ in range(5)]
        await asyncio.sleep(0.1)
    await asyncio.gather(*users)
    assert refusals <= 6, "each who waits asks the server at most once"
    await database.close()


async def test_a_connection_that_comes_back_as_the_time_is_up_is_not_lost(url: str) -> None:
    database = PostgresDatabase(url, options=PostgresOptions(connections=1, answer_timeout=1.0))
    await database.open()

    async def use() -> None:
        async with database.connection() as connection:
            await connection.execute("SELECT 1")

    async with database.connection():
        user = asyncio.create_task(use())
        await asyncio.sleep(0.1)
        time.sleep(0.6)  # noqa: ASYNC251 - the loop is busy until the waiter's time is up, which it sees afterwards
        await asyncio.sleep(0)  # the loop calls this task, which gives back, just before the timer that is due
    await asyncio.gather(user, return_exceptions=True)
    await use()
    await database.close()


@pytest.mark.parametrize(("size", "is_enough"), [(1, False), (2, True)])
async def test_a_pooler_that_lends_too_few_connections_is_refused_by_name(
    postgres_server: Callable[[int], PostgresServer], url: str, size: int, *, is_enough: bool
) -> None:
    server = postgres_server(18)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(pgbouncer(server.folder, default_pool_size=size))
        except ProgramMissingError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        log = PostgresEventLog(PostgresDatabase(url.replace(str(server.folder), str(folder)), options=OPTIONS))
        with soon():
            if is_enough:
                await log.open()
                assert isinstance(await log.append(append_of(new_event("Note-1"))), Appended)
                await log.close()
            else:
                with pytest.raises(StorageUnavailableError, match="default_pool_size"):
                    await log.open()
