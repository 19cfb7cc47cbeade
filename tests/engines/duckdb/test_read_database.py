"""DuckDB's read database passes the suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from twofold.engines.duckdb import DuckDbReadDatabase
from twofold.testing import ReadDatabaseConformance


class TestDuckDbReadDatabase(ReadDatabaseConformance):
    """`another` is not overridden: a file has one owner."""

    @pytest_asyncio.fixture
    async def read_database(self, tmp_path: Path) -> AsyncIterator[DuckDbReadDatabase]:
        database = DuckDbReadDatabase(tmp_path / "rows.duckdb")
        await database.open()
        yield database
        await database.close()
