"""The tests of the same name hold on DuckDB, too."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.queries.test_read_model import *  # noqa: F403

from twofold.engines.duckdb import DuckDbReadDatabase
from twofold.ports.read_database import ReadDatabase


@pytest_asyncio.fixture(scope="module", loop_scope="module")  # type: ignore[no-redef]
async def database(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ReadDatabase]:
    database = DuckDbReadDatabase(tmp_path_factory.mktemp("duckdb") / "rows.duckdb")
    await database.open()
    yield database
    await database.close()
