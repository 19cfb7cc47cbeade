"""Logs that can be copied, against their suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec.structs import replace

from twofold.engines.memory import MemoryEventLog
from twofold.engines.sqlite import SqliteDatabase, SqliteEventLog
from twofold.messages.stored_event import StoredEvent
from twofold.ports.maintenance import StoredCommand, TagChange
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


class TagsNotLookedUp(MemoryEventLog):
    """Replaces tags in the rows of the log, and not in those of the streams."""

    async def replace_tags(self, changes: Sequence[TagChange]) -> None:
        streams = {name: list(rows) for name, rows in self._streams.items()}
        await super().replace_tags(changes)
        self._streams = streams


class RecordedUnseen(MemoryEventLog):
    async def record_tagged_types(self, types: Mapping[str, str], *, seen: int | None = None) -> bool:
        return await super().record_tagged_types(types)


@pytest.mark.parametrize(
    ("broken", "name"),
    [
        (RecordedAnew, "test_rows_are_restored_exactly"),
        (CommandsForgotten, "test_commands_are_restored_exactly"),
        (GapsAccepted, "test_rows_that_leave_a_gap_are_refused_and_none_is_stored"),
        (TagsNotLookedUp, "test_events_are_found_by_tags_that_they_get_later"),
        (RecordedUnseen, "test_a_type_with_events_behind_what_was_seen_is_not_recorded"),
        (RowsWithoutTheirCommand, "test_a_command_beyond_the_end_is_refused_with_its_rows"),
    ],
)
async def test_the_suite_sees_a_planted_bug(broken: type[MemoryEventLog], name: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await getattr(PortableLogConformance(), name)(broken())
