"""Behind PgBouncer in transaction mode everything holds as well."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from tests.debian import ProgramMissingError
from tests.engines.postgres.pgbouncer import pgbouncer
from tests.postgres_servers import PostgresServer

from twofold.engines.postgres import PostgresDatabase, PostgresEventLog
from twofold.ports.event_log import EventLog
from twofold.testing import EventLogConformance


@pytest.fixture(scope="module")
def pooler(postgres_server: Callable[[int], PostgresServer]) -> Iterator[tuple[Path, Path]]:
    server = postgres_server(18).folder
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(pgbouncer(server))
        except ProgramMissingError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        yield server, folder


class TestBehindPgBouncer(EventLogConformance):
    @pytest.fixture
    def another(self, url: str, pooler: tuple[Path, Path]) -> Callable[[], EventLog]:
        server, folder = map(str, pooler)
        return lambda: PostgresEventLog(PostgresDatabase(url.replace(server, folder)))

    @pytest_asyncio.fixture
    async def log(self, another: Callable[[], PostgresEventLog]) -> AsyncIterator[PostgresEventLog]:
        log = another()
        await log.open()
        yield log
        await log.close()


async def test_a_pooler_is_noticed(url: str, pooler: tuple[Path, Path]) -> None:
    server, folder = map(str, pooler)
    for address, expected in ((url, False), (url.replace(server, folder), True)):
        database = PostgresDatabase(address)
        await database.open()
        assert database.pooled is expected
        await database.close()
