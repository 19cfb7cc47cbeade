"""Read models on DuckDB, beside a log on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from twofold.engines.duckdb import DuckDbReadDatabase
from twofold.engines.engine import Engine, connect


@pytest_asyncio.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    """Return the engines, opened; in place of one for both."""
    log = connect(f"sqlite:///{tmp_path}/log.db").log
    database = DuckDbReadDatabase(tmp_path / "rows.duckdb")
    await log.open()
    await database.open()
    yield Engine(log, database)
    await database.close()
    await log.close()
