"""PostgreSQL's log can be copied, from and to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.campaigns.log.logs import sound

from twofold.engines.engine import connect
from twofold.engines.postgres import PostgresDatabase, PostgresEventLog
from twofold.engines.sqlite import SqliteDatabase, SqliteEventLog
from twofold.errors import StorageError
from twofold.log.copy import copy_log
from twofold.messages.event_query import EventQuery
from twofold.ports.event_log import EventLog
from twofold.testing import PortableLogConformance
from twofold.testing.samples import append_of, new_command, new_event


class TestPostgresEventLog(PortableLogConformance):
    @pytest_asyncio.fixture
    async def log(self, url: str) -> AsyncIterator[EventLog]:
        log = sound(url)
        await log.open()
        yield log
        await log.close()


async def test_a_log_comes_back_from_postgresql_as_it_went_there(url: str, tmp_path: Path) -> None:
    first, second = (SqliteEventLog(SqliteDatabase(tmp_path / f"{name}.db")) for name in ("first", "second"))
    between = PostgresEventLog(PostgresDatabase(url))
    for log in (first, second, between):
        await log.open()
    command = new_command()
    await first.append(append_of(new_event("S-1", "a", "b"), new_event("S-1", "a"), command=command))
    for number in range(50):
        await first.append(append_of(new_event(f"S-{number % 7}", f"t{number % 3}", text="é🎉"), new_event("")))
    await copy_log(first, between)
    await copy_log(between, second)
    original = await first.read(EventQuery.all(), limit=1000)
    assert await between.read(EventQuery.all(), limit=1000) == original
    assert await second.read(EventQuery.all(), limit=1000) == original
    assert await between.find_command(command.command_id) == await first.find_command(command.command_id)
    assert await between.check() == []
    for log in (first, second, between):
        await log.close()


async def test_a_database_that_is_only_looked_at_is_not_migrated(url: str) -> None:
    with pytest.raises(StorageError, match="at migration 0 of"):
        await connect(url, migrate=False).log.open()
