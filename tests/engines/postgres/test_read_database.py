"""PostgreSQL's read database passes the suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from twofold.engines.postgres import PostgresDatabase, PostgresReadDatabase
from twofold.ports.read_database import ReadDatabase
from twofold.testing import ReadDatabaseConformance
from twofold.testing.read_database_suite.requests import RequestPromises


@pytest.mark.parametrize("version", [15, 16, 18], scope="class")
class TestPostgresReadDatabase(RequestPromises, ReadDatabaseConformance):
    @pytest.fixture
    def address(self, version: int, new_database: Callable[[int], str]) -> str:
        return new_database(version)

    @pytest_asyncio.fixture
    async def read_database(self, address: str) -> AsyncIterator[PostgresReadDatabase]:
        database = PostgresReadDatabase(PostgresDatabase(address))
        await database.open()
        yield database
        await database.close()

    @pytest.fixture
    def another(self, address: str) -> Callable[[], ReadDatabase]:
        return lambda: PostgresReadDatabase(PostgresDatabase(address))
