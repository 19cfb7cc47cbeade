"""The same on memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from tests.queries.test_read_model import *  # noqa: F403

from twofold.engines.engine import connect
from twofold.ports.read_database import ReadDatabase


@pytest_asyncio.fixture(scope="module", loop_scope="module")  # type: ignore[no-redef]
async def database() -> AsyncIterator[ReadDatabase]:
    database = connect("memory://").read_database
    await database.open()
    yield database
    await database.close()
