"""PostgreSQL passes the suite, in every version that is supported."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from twofold.engines.postgres import PostgresDatabase, PostgresEventLog
from twofold.ports.event_log import EventLog
from twofold.testing import EventLogConformance


class _OnPostgres(EventLogConformance):
    version: int

    @pytest.fixture
    def another(self, new_database: Callable[[int], str]) -> Callable[[], EventLog]:
        url = new_database(self.version)
        return lambda: PostgresEventLog(PostgresDatabase(url))

    @pytest_asyncio.fixture
    async def log(self, another: Callable[[], PostgresEventLog]) -> AsyncIterator[PostgresEventLog]:
        log = another()
        await log.open()
        yield log
        await log.close()


class TestPostgres15(_OnPostgres):
    version = 15


class TestPostgres16(_OnPostgres):
    version = 16


class TestPostgres18(_OnPostgres):
    version = 18
