"""Log and read models in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.synchronizing import engine_at

from twofold.engines.engine import Engine


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[Engine]:
    """Return an open engine; in place of one of a database."""
    async with engine_at("memory://") as (engine, _):
        yield engine


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the address of a file, for tests that take it for the SQL that they write."""
    return f"sqlite:///{tmp_path}/twofold.db"
