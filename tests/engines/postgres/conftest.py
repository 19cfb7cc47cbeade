"""Here, the engine is PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from twofold.engines.postgres import PostgresDatabase, PostgresEventLog


@pytest.fixture
def url(new_database: Callable[[int], str]) -> str:
    """Return the address of a fresh database on the newest server."""
    return new_database(18)


@pytest_asyncio.fixture
async def log(url: str) -> AsyncIterator[PostgresEventLog]:
    log = PostgresEventLog(PostgresDatabase(url))
    await log.open()
    yield log
    await log.close()
