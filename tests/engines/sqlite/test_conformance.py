"""The embedded engine passes the suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from twofold.engines.sqlite import SqliteDatabase, SqliteEventLog
from twofold.ports.event_log import EventLog
from twofold.testing import EventLogConformance


class TestSqliteEventLog(EventLogConformance):
    @pytest_asyncio.fixture
    async def log(self, tmp_path: Path) -> AsyncIterator[SqliteEventLog]:
        log = SqliteEventLog(SqliteDatabase(tmp_path / "events.db"))
        await log.open()
        yield log
        await log.close()

    @pytest.fixture
    def another(self, tmp_path: Path) -> Callable[[], EventLog]:
        return lambda: SqliteEventLog(SqliteDatabase(tmp_path / "events.db"))
