"""The embedded engine's read database passes the suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from twofold.engines.sqlite import SqliteDatabase, SqliteReadDatabase
from twofold.ports.read_database import ReadDatabase
from twofold.testing import ReadDatabaseConformance
from twofold.testing.read_database_suite.requests import RequestPromises


class TestSqliteReadDatabase(RequestPromises, ReadDatabaseConformance):
    @pytest_asyncio.fixture
    async def read_database(self, tmp_path: Path) -> AsyncIterator[SqliteReadDatabase]:
        database = SqliteReadDatabase(SqliteDatabase(tmp_path / "rows.db"))
        await database.open()
        yield database
        await database.close()

    @pytest.fixture
    def another(self, tmp_path: Path) -> Callable[[], ReadDatabase]:
        return lambda: SqliteReadDatabase(SqliteDatabase(tmp_path / "rows.db"))
