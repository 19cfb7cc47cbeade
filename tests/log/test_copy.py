"""A copy is its source, or an error says where they differ; an interrupted copy goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from twofold import EventQuery
from twofold.engines.memory import MemoryEventLog
from twofold.engines.sqlite import SqliteDatabase, SqliteEventLog
from twofold.errors import CorruptEventError, LogsDifferError, StorageError, StorageUnavailableError
from twofold.log.copy import copy_log, digest_log
from twofold.log.verify import verify_log
from twofold.messages.mark import Mark
from twofold.messages.stored_event import StoredEvent, content_checksum, seal
from twofold.options import LogOptions
from twofold.ports.event_log import Appended, Scan
from twofold.ports.maintenance import PortableLog, StoredCommand, TagChange
from twofold.testing.samples import append_of, new_command, new_event

EVENTS = 100
MakeLog = Callable[[str], Any]


SMALL = LogOptions(whole_log_chunk=7)
"""So that a small log is copied in many chunks."""


@pytest.fixture
async def source() -> MemoryEventLog:
    return await filled(MemoryEventLog())


@pytest_asyncio.fixture(params=["memory", "sqlite"])
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PortableLog]:
    log: PortableLog = MemoryEventLog() if request.param == "memory" else sqlite(tmp_path / "target.db")
    await log.open()
    yield log
    await log.close()


def sqlite(path: Path) -> SqliteEventLog:
    return SqliteEventLog(SqliteDatabase(path))


async def filled(log: MemoryEventLog, events: int = EVENTS) -> MemoryEventLog:
    while (head := await log.head()) < events:
        topics = [f"t{head % 5}"]
        command = new_command(bytes([head % 256]) * 16, b'{"n":%d}' % head) if head % 2 else None
        count = min(1 + head % 3, events - head)
        new = (new_event(f"Note-{(head + n) % 4}" if n % 2 else "", *topics, text=f"é {head}") for n in range(count))
        await log.append(append_of(*new, command=command))
    return log


async def contents(log: PortableLog) -> tuple[list[StoredEvent], list[StoredCommand]]:
    return list(await log.read(EventQuery.all(), limit=10_000)), list(await log.read_commands(limit=10_000))


class Interrupted(MemoryEventLog):
    """Fails after so many restorations."""

    def __init__(self, remaining: int) -> None:
        super().__init__()
        self.remaining = remaining

    async def restore(self, rows: Sequence[StoredEvent], commands: Sequence[StoredCommand] = ()) -> None:
        if not self.remaining:
            raise StorageUnavailableError("unplugged")
        self.remaining -= 1
        await super().restore(rows, commands)


class Counting(MemoryEventLog):
    """Counts the events that are read."""

    events_read = 0

    async def scan(self, query: EventQuery, *, after: Mark, end: int | None = None, limit: int) -> Scan:
        found = await super().scan(query, after=after, end=end, limit=limit)
        self.events_read += len(found.rows)
        return found


async def test_a_copy_reads_each_event_once_from_the_source_and_once_from_the_target() -> None:
    source, target = Counting(), Counting()
    await filled(source)
    await copy_log(source, target, options=SMALL)
    assert (source.events_read, target.events_read) == (EVENTS, EVENTS)


async def test_marks_of_the_source_are_valid_on_the_copy(source: MemoryEventLog, target: PortableLog) -> None:
    await copy_log(source, target, options=SMALL)
    for position in (0, 1, 50, EVENTS):
        mark = await source.mark(position)
        assert mark is not None
        assert mark == await target.mark(position)
        assert (await target.scan(EventQuery.all(), after=mark, limit=1)).rows == [
            *await source.read(EventQuery.all(), after=position, limit=1)
        ]


async def test_a_copy_has_every_event_and_command_of_its_source(source: MemoryEventLog, target: PortableLog) -> None:
    copied = await copy_log(source, target, options=SMALL)
    assert await contents(target) == await contents(source)
    assert (copied.events, copied.already) == (EVENTS, 0)
    assert copied.commands == len(await source.read_commands(limit=1000))
    assert copied.digest == await digest_log(source, EVENTS) == await digest_log(target, EVENTS)
    assert await verify_log(target, options=SMALL) == EVENTS


async def test_an_empty_log_has_an_empty_copy(target: PortableLog) -> None:
    copied = await copy_log(MemoryEventLog(), target, options=SMALL)
    assert (copied.events, copied.commands) == (0, 0)


async def test_a_copy_goes_both_ways_between_engines(source: MemoryEventLog, tmp_path: Path) -> None:
    first, second = sqlite(tmp_path / "first.db"), sqlite(tmp_path / "second.db")
    await first.open()
    await second.open()
    back = MemoryEventLog()
    for one, other in ((source, first), (first, second), (second, back)):
        await copy_log(one, other, options=SMALL)
    assert await contents(back) == await contents(source)
    await first.close()
    await second.close()


async def test_a_retried_command_gets_its_first_receipt_from_the_copy(
    source: MemoryEventLog, target: PortableLog
) -> None:
    await copy_log(source, target, options=SMALL)
    first = (await source.read_commands(limit=1))[0]
    repeat = new_command(first.content_hash)._replace(command_id=first.command_id)
    outcome = await target.append(append_of(new_event(), command=repeat))
    assert isinstance(outcome, Appended)
    assert (outcome.first, outcome.last) == (first.first_position, first.last_position)
    assert (outcome.repeated, outcome.result) == (True, first.result)


@pytest.mark.parametrize("restorations", range(24))
async def test_an_interrupted_copy_goes_on_wherever_it_was(source: MemoryEventLog, restorations: int) -> None:
    target = Interrupted(restorations)
    try:
        await copy_log(source, target, options=SMALL)
    except StorageUnavailableError:
        target.remaining = 1000
        already = await target.head()
        assert (await copy_log(source, target, options=SMALL)).already == already
    assert await contents(target) == await contents(source)


async def test_tags_that_the_source_gets_during_a_copy_are_not_promised_before_they_are_there(
    source: MemoryEventLog, target: PortableLog
) -> None:
    tags = b'["kind:n"]'

    class Tagging(MemoryEventLog):
        async def scan(self, query: EventQuery, *, after: Mark, end: int | None = None, limit: int) -> Scan:
            found = await super().scan(query, after=after, end=end, limit=limit)
            row = self._events[0]
            if row.tags != tags:  # behind the back of the copy, which has read the row just now
                await self.replace_tags([TagChange(1, row.checksum, tags, retagged(row, tags).checksum)])
                await self.record_tagged_types({row.type: "all of them"})
            return found

    tagging = Tagging()
    await tagging.restore(*await contents(source))
    await copy_log(tagging, target, options=SMALL)
    assert await target.tagged_types() == {}
    await copy_log(tagging, target, options=SMALL)
    assert await target.tagged_types() == await tagging.tagged_types() != {}
    assert await contents(target) == await contents(tagging)


def retagged(row: StoredEvent, tags: bytes) -> StoredEvent:
    content = content_checksum(replace(row, tags=tags))
    return replace(row, tags=tags, checksum=seal(content, row.position, row.version, row.recorded_at))


async def test_a_second_copy_brings_what_was_appended_since(source: MemoryEventLog, target: PortableLog) -> None:
    await copy_log(source, target, options=SMALL)
    await filled(source, EVENTS + 30)
    copied = await copy_log(source, target, options=SMALL)
    assert (copied.already, copied.events) == (EVENTS, EVENTS + 30)
    assert await contents(target) == await contents(source)


async def test_what_is_appended_to_the_source_meanwhile_waits_for_the_next_copy(
    source: MemoryEventLog, target: PortableLog
) -> None:
    class Busy(MemoryEventLog):
        async def read(self, *arguments: Any, **options: Any) -> Sequence[StoredEvent]:
            await self.append(append_of(new_event(), command=new_command()))
            return await super().read(*arguments, **options)

    busy = Busy()
    await busy.restore(*await contents(source))
    copied = await copy_log(busy, target, options=SMALL)
    assert copied.events == EVENTS
    assert await contents(target) == await contents(source)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(1, EVENTS), length=st.integers(1, EVENTS))
async def test_a_target_that_holds_something_else_is_refused_and_left_alone(
    source: MemoryEventLog, position: int, length: int
) -> None:
    rows, _ = await contents(source)
    other = new_event(rows[position - 1].stream_id, text="other")
    foreign = MemoryEventLog()
    await foreign.restore(rows[: position - 1])
    await foreign.append(append_of(other))
    before = await contents(foreign)
    with pytest.raises(LogsDifferError, match="copy to an empty database") as caught:
        await copy_log(source, foreign, options=SMALL)
    assert caught.value.position == position
    assert await contents(foreign) == before


async def test_a_target_that_is_longer_than_the_source_is_refused(source: MemoryEventLog, target: PortableLog) -> None:
    await copy_log(source, target, options=SMALL)
    await target.append(append_of(new_event()))
    with pytest.raises(LogsDifferError, match="goes on where the source ends"):
        await copy_log(source, target, options=SMALL)


async def test_somebody_else_who_writes_to_the_target_is_noticed(source: MemoryEventLog) -> None:
    class Shared(MemoryEventLog):
        async def restore(self, rows: Sequence[StoredEvent], commands: Sequence[StoredCommand] = ()) -> None:
            await self.append(append_of(new_event()))
            await super().restore(rows, commands)

    with pytest.raises(LogsDifferError, match="another program changes the target"):
        await copy_log(source, Shared(), options=SMALL)


@pytest.mark.parametrize(
    "alter",
    [
        lambda log: log._commands.popitem(),
        lambda log: log._commands.update({k: (c._replace(result=b"{}"), a) for k, (c, a) in log._commands.items()}),
        lambda log: log._events.__setitem__(50, replace(log._events[50], metadata=b'{"user":"eve"}')),
        lambda log: log._events.pop(),
    ],
)
async def test_a_copy_that_does_not_keep_what_it_is_given_is_noticed(
    source: MemoryEventLog, alter: Callable[[MemoryEventLog], Any]
) -> None:
    class Lossy(MemoryEventLog):
        async def restore(self, rows: Sequence[StoredEvent], commands: Sequence[StoredCommand] = ()) -> None:
            await super().restore(rows, commands)
            if len(self._events) == EVENTS and self._commands:
                alter(self)

    with pytest.raises((LogsDifferError, CorruptEventError, StorageError)):
        await copy_log(source, Lossy(), options=SMALL)


async def test_a_damaged_source_is_not_copied_beyond_the_damage(source: MemoryEventLog, target: PortableLog) -> None:
    source._events[40] = replace(source._events[40], payload=b'{"text":"forged"}')
    with pytest.raises(CorruptEventError, match="event 41"):
        await copy_log(source, target, options=SMALL)
    assert await target.head() <= 40


async def test_progress_is_told_for_every_stage_up_to_its_end(source: MemoryEventLog, target: PortableLog) -> None:
    told: list[tuple[str, int, int]] = []
    await copy_log(source, target, progress=lambda *step: told.append(step), options=SMALL)
    for stage in ("copying", "comparing both logs"):
        positions = [position for name, position, end in told if name == stage]
        assert positions == sorted(positions)
        assert positions[-1] == EVENTS
        assert len(positions) > 5
    assert {end for _, _, end in told} == {EVENTS}
