"""Logs that keep snapshots, against their suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from twofold.engines.engine import Engine
from twofold.engines.memory import MemoryEventLog
from twofold.messages.stored_event import StoredEvent
from twofold.ports.event_log import EventLog
from twofold.ports.snapshots import FoundSnapshot, Snapshot
from twofold.testing import SnapshotLogConformance


class TestMemoryEventLog(SnapshotLogConformance):
    @pytest_asyncio.fixture
    async def log(self) -> MemoryEventLog:
        return MemoryEventLog()


class TestEventLogOnDisk(SnapshotLogConformance):
    @pytest_asyncio.fixture
    async def log(self, engine: Engine) -> AsyncIterator[EventLog]:
        yield engine.log


class LastWins(MemoryEventLog):
    async def save_snapshot(self, snapshot: Snapshot, *, instead_of: int | None = None) -> bool:
        self._snapshots[snapshot[:2]] = snapshot
        return True


class UselessStays(MemoryEventLog):
    async def save_snapshot(self, snapshot: Snapshot, *, instead_of: int | None = None) -> bool:
        return await super().save_snapshot(snapshot)


class TagsNotCounted(MemoryEventLog):
    async def find_snapshot(self, fold: str, subject: str) -> FoundSnapshot:
        return (await super().find_snapshot(fold, subject))._replace(tag_changes=0)


class SubjectsMixedUp(MemoryEventLog):
    async def find_snapshot(self, fold: str, subject: str) -> FoundSnapshot:
        return await super().find_snapshot(fold, "Note-1")


class BeginningOfAnyStream(MemoryEventLog):
    async def read_short_stream(self, stream_id: str, *, limit: int) -> Sequence[StoredEvent] | None:
        return await self.read_stream(stream_id, limit=limit)


class OneTooMany(MemoryEventLog):
    async def read_short_stream(self, stream_id: str, *, limit: int) -> Sequence[StoredEvent] | None:
        return await super().read_short_stream(stream_id, limit=limit + 1)


@pytest.mark.parametrize(
    ("broken", "name"),
    [
        (LastWins, "test_of_several_snapshots_the_one_of_the_highest_position_stays"),
        (UselessStays, "test_one_that_was_found_useless_gives_way_and_no_other_one_does"),
        (TagsNotCounted, "test_tags_that_are_added_to_stored_events_are_counted"),
        (SubjectsMixedUp, "test_what_was_never_saved_is_not_found"),
        (BeginningOfAnyStream, "test_a_short_stream_is_read_whole_and_a_longer_one_not_at_all"),
        (OneTooMany, "test_a_short_stream_is_read_whole_and_a_longer_one_not_at_all"),
    ],
)
async def test_the_suite_sees_a_planted_bug(broken: type[MemoryEventLog], name: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await getattr(SnapshotLogConformance(), name)(broken())
