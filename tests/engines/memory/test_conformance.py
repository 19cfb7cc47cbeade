"""Everything in memory passes the suites of the ports."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from twofold.engines.memory import MemoryEventLog, MemoryReadDatabase
from twofold.testing import EventLogConformance, ReadDatabaseConformance


class TestMemoryEventLog(EventLogConformance):
    @pytest_asyncio.fixture
    async def log(self) -> AsyncIterator[MemoryEventLog]:
        log = MemoryEventLog()
        await log.open()
        yield log
        await log.close()


class TestMemoryReadDatabase(ReadDatabaseConformance):
    @pytest_asyncio.fixture
    async def read_database(self) -> AsyncIterator[MemoryReadDatabase]:
        database = MemoryReadDatabase()
        await database.open()
        yield database
        await database.close()
