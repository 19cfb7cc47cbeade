"""Logs that can be copied, against their suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec.structs import replace

from twofold.engines.memory import MemoryEventLog
from twofold.engines.sqlite import SqliteDatabase, SqliteEventLog
from twofold.messages.stored_event import StoredEvent
from twofold.ports.maintenance import StoredCommand
from twofold.testing import PortableLogConformance


class TestMemoryEventLog(PortableLogConformance):
    @pytest_asyncio.fixture
    async def log(self) -> MemoryEventLog:
        return MemoryEventLog()


class TestSqliteEventLog(PortableLogConformance):
    @pytest_asyncio.fixture
    async def log(self, tmp_path: Path) -> AsyncIterator[SqliteEventLog]:
        log = SqliteEventLog(SqliteDatabase(tmp_path / "events.db"))
        await log.open()
        yield log
        await log.close()


class RecordedAnew(MemoryEventLog):
    """Gives the rows the time of their restoration."""

    async def restore(self, rows: Sequence[StoredEvent], commands: Sequence[StoredCommand] = ()) -> None:
        await super().restore([replace(row, recorded_at=row.recorded_at + 1) for row in rows], commands)


class CommandsForgotten(MemoryEventLog):
    async def restore(self, rows: Sequence[StoredEvent], commands: Sequence[StoredCommand] = ()) -> None:
        await super().restore(rows)


class GapsAccepted(MemoryEventLog):
    async def restore(self, rows: Sequence[StoredEvent], commands: Sequence[StoredCommand] = ()) -> None:
        for row in rows:
            self._keep(row)


class RowsWithoutTheirCommand(MemoryEventLog):
    """Stores the rows in one transaction, the commands in another."""

    async def restore(self, rows: Sequence[StoredEvent], commands: Sequence[StoredCommand] = ()) -> None:
        await super().restore(rows)
        await super().restore((), commands)


@pytest.mark.parametrize(
    ("broken", "name"),
    [
        (RecordedAnew, "test_rows_are_restored_exactly"),
        (CommandsForgotten, "test_commands_are_restored_exactly"),
        (GapsAccepted, "test_rows_that_leave_a_gap_are_refused_and_none_is_stored"),
        (RowsWithoutTheirCommand, "test_a_command_beyond_the_end_is_refused_with_its_rows"),
    ],
)
async def test_the_suite_sees_a_planted_bug(broken: type[MemoryEventLog], name: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await getattr(PortableLogConformance(), name)(broken())
