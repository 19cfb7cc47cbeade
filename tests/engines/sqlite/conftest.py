"""A log in a file of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from twofold.engines.sqlite import SqliteDatabase, SqliteEventLog


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest_asyncio.fixture
async def log(file: Path) -> AsyncIterator[SqliteEventLog]:
    log = SqliteEventLog(SqliteDatabase(file))
    await log.open()
    yield log
    await log.close()
