"""The reference passes its own suite."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from twofold.engines.memory import MemoryEventLog
from twofold.testing import EventLogConformance


class TestMemoryEventLog(EventLogConformance):
    @pytest_asyncio.fixture
    async def log(self) -> AsyncIterator[MemoryEventLog]:
        log = MemoryEventLog()
        await log.open()
        yield log
        await log.close()
