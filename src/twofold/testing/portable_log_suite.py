"""The conformance suite of `PortableLog`, for adapters whose logs can be copied.

class TestMyLog(PortableLogConformance):
@pytest_asyncio.fixture
async def log(self): ...        # an open, empty log
"""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

import asyncio
from uuid import UUID

import msgspec
import pytest
from msgspec.structs import replace

from twofold.engines.memory import MemoryEventLog
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import REMOVED, NewEvent, StoredEvent, content_checksum, is_intact, seal
from twofold.ports.event_log import Appended
from twofold.ports.maintenance import Fork, PortableLog, Removal, StoredCommand, StreamSize, TagChange
from twofold.testing.samples import Revised, append_of, new_command, new_event, repeated_span, span, topic

EVERYTHING = EventQuery.all()
RESULT = '{"it":"ü \\\\ \\""}'.encode()


async def sample_log() -> MemoryEventLog:
    """Return a log with a bit of everything in it."""
    log = MemoryEventLog()
    for n in range(10):
        command = new_command(bytes([n]) * 16, RESULT)
        events = (new_event(f"Note-{n % 3}", "x", text=f"é\"' {n}"), new_event("", "x", "y", kind=Revised))
        await log.append(append_of(*events, command=command if n % 2 else None))
    return log


async def rows_of(log: PortableLog) -> list[StoredEvent]:
    """Return all rows of a small log."""
    return list(await log.read(EVERYTHING, limit=10_000))


class PortableLogConformance:
    """What is restored is what it was, for every way of asking."""

    async def test_rows_are_restored_exactly(self, log: PortableLog) -> None:
        source = await sample_log()
        rows, commands = await rows_of(source), await source.read_commands(limit=100)
        await log.restore(rows[:7])
        await log.restore(rows[7:], commands)
        assert await rows_of(log) == rows
        assert await log.head() == len(rows)
        for query in (topic("x"), topic("x", "y"), topic(kinds=(Revised,))):
            assert list(await log.read(query, limit=100)) == list(await source.read(query, limit=100))
        for n in range(3):
            stream = list(await source.read_stream(f"Note-{n}", limit=100))
            assert list(await log.read_stream(f"Note-{n}", limit=100)) == stream

    async def test_commands_are_restored_exactly(self, log: PortableLog) -> None:
        source = await sample_log()
        commands = list(await source.read_commands(limit=100))
        await log.restore(await rows_of(source))
        await log.restore((), commands)
        assert list(await log.read_commands(limit=100)) == commands
        for command in commands:
            assert await log.find_command(command.command_id) == await source.find_command(command.command_id)

    async def test_appends_go_on_where_the_restored_rows_end(self, log: PortableLog) -> None:
        source = await sample_log()
        await log.restore(await rows_of(source), await source.read_commands(limit=100))
        version = len(await source.read_stream("Note-0", limit=100))
        again = new_event("Note-0", "z")
        assert span(await log.append(append_of(again, expected={"Note-0": version}))) == (21, 21)
        assert [row.version for row in await log.read(topic("z"), limit=10)] == [version + 1]
        assert repeated_span(await log.append(append_of(again))) == (21, 21)

    async def test_a_command_that_was_restored_takes_effect_only_once(self, log: PortableLog) -> None:
        source = await sample_log()
        commands = await source.read_commands(limit=100)
        await log.restore(await rows_of(source), commands)
        _, content_hash, result, _, first, last = commands[0]
        repeat = new_command(content_hash, b"{}")._replace(command_id=commands[0].command_id)
        outcome = await log.append(append_of(new_event("Note-9"), command=repeat))
        assert isinstance(outcome, Appended)
        assert (outcome.first, outcome.last, outcome.repeated, outcome.result) == (first, last, True, result)

    async def test_rows_that_leave_a_gap_are_refused_and_none_is_stored(self, log: PortableLog) -> None:
        rows = await rows_of(await sample_log())
        for wrong in (rows[1:], [rows[0], rows[2]], rows[:2] + rows[:1]):
            with pytest.raises(ValueError, match="the log goes on at position"):
                await log.restore(wrong)
        assert await log.head() == 0
        await log.restore(rows[:3])
        with pytest.raises(ValueError, match="the log goes on at position 4"):
            await log.restore(rows[:3])
        assert await rows_of(log) == rows[:3]

    async def test_a_command_beyond_the_end_is_refused_with_its_rows(self, log: PortableLog) -> None:
        rows = await rows_of(await sample_log())
        with pytest.raises(ValueError, match="which is not in the log"):
            await log.restore(rows[:3], [StoredCommand(bytes(16), b"#", b"{}", "Do", 3, 4)])
        assert await log.head() == 0

    async def test_commands_are_read_in_the_order_of_their_ids_page_by_page(self, log: PortableLog) -> None:
        ids = [UUID(int=n * 7919 % 101).bytes for n in range(10)]
        for each in ids:
            await log.append(append_of(new_event(), command=new_command()._replace(command_id=each)))
        found: list[bytes] = []
        while page := await log.read_commands(after=found[-1] if found else b"", limit=3):
            assert len(page) <= 3
            found += [command.command_id for command in page]
        assert found == sorted(ids)

    async def test_old_records_of_commands_are_removed_slice_by_slice_by_tag_and_no_event_is(
        self, log: PortableLog
    ) -> None:
        for n in range(6):
            await log.append(append_of(new_event("", f"t{n % 2}"), command=new_command()))
        rows, all_ids = await rows_of(log), [each.command_id for each in await log.read_commands(limit=10)]
        before, [tag] = rows[-1].recorded_at + 1, msgspec.json.decode(rows[1].tags)
        assert await log.prune_commands(before=0, limit=10, write=True) == (0, all_ids[-1])
        after, counts = b"", list[int]()
        while pruned := await log.prune_commands(before=before, tag=tag, after=after, limit=2, write=True):
            after = pruned.last
            counts.append(pruned.found)
        assert sum(counts) == 3
        assert len(await log.read_commands(limit=10)) == 3
        counted = await log.prune_commands(before=before, limit=10, write=False)
        assert counted is not None
        assert (counted.found, len(await log.read_commands(limit=10)), await log.head()) == (3, 3, 6)

    async def test_events_are_found_by_their_ids(self, log: PortableLog) -> None:
        rows = await rows_of(await sample_log())
        await log.restore(rows)
        wanted = [rows[7].event_id, bytes(16), rows[2].event_id, rows[7].event_id]
        assert list(await log.find_events(wanted)) == [rows[2], rows[7]]
        assert list(await log.find_events([])) == []

    async def test_events_are_found_by_what_their_metadata_holds(self, log: PortableLog) -> None:
        named = [1, 4, 5, 9]
        for n in range(10):
            given = b'{"user":"%s"}' % ("änn".encode() if n in named else b"ben")
            await log.append(append_of(_with_metadata(new_event("Note-1"), given)))
        rows = await rows_of(log)

        async def found(after: int, before: int, limit: int, *, backwards: bool = False) -> list[int]:
            text = '"user":"änn"'
            read = await log.read_mentioning(text, after=after, before=before, limit=limit, backwards=backwards)
            assert all(row == rows[row.position - 1] for row in read)
            return [row.position for row in read]

        assert await found(0, 99, 99) == [2, 5, 6, 10]
        assert await found(2, 10, 99) == [5, 6]
        assert await found(0, 99, 2) == [2, 5]
        assert await found(0, 99, 3, backwards=True) == [10, 6, 5]
        assert await found(2, 6, 9, backwards=True) == [5]
        assert list(await log.read_mentioning('"user":"nn"', after=0, before=99, limit=9)) == []

    async def test_an_empty_log_takes_over_the_id_of_the_log_that_it_becomes_a_copy_of(self, log: PortableLog) -> None:
        source = await sample_log()
        beginning = await source.mark(0)
        assert beginning is not None
        await log.adopt(beginning.event_id)
        await log.restore(await rows_of(source))
        assert await log.mark(0) == beginning
        await log.adopt(bytes(16))
        assert await log.mark(0) == beginning, "a log that holds events keeps its own"

    async def test_a_log_is_marked_as_a_fork_before_it_holds_events_and_then_stays_one(self, log: PortableLog) -> None:
        fork, other = Fork(bytes(range(16)), 5), Fork(bytes(16), 5)
        assert await log.fork() is None
        assert await log.mark_fork(other)
        assert await log.mark_fork(fork)
        assert await log.fork() == fork
        await log.restore((await rows_of(await sample_log()))[:5])
        assert await log.mark_fork(fork), "it says the same again"
        assert not await log.mark_fork(other)
        assert not await log.mark_fork(fork._replace(position=4))
        assert await log.fork() == fork

    async def test_a_log_that_holds_events_becomes_no_fork(self, log: PortableLog) -> None:
        await log.restore((await rows_of(await sample_log()))[:5])
        assert not await log.mark_fork(Fork(bytes(16), 5))
        assert await log.fork() is None

    async def test_whoever_waits_is_woken_by_what_is_restored(self, log: PortableLog) -> None:
        waiting = asyncio.create_task(log.wait(0, 10))
        await asyncio.sleep(0)
        await log.restore((await rows_of(await sample_log()))[:5])
        assert await waiting == 5

    async def test_a_whole_log_has_no_damage(self, log: PortableLog) -> None:
        assert list(await log.check()) == []
        source = await sample_log()
        await log.restore(await rows_of(source), await source.read_commands(limit=100))
        await log.append(append_of(new_event("Note-1", "x", "x", "y"), command=new_command()))
        assert list(await log.check()) == []

    async def test_an_inspection_counts_what_is_there(self, log: PortableLog) -> None:
        empty = await log.inspect()
        assert (empty.head, dict(empty.types), empty.commands, list(empty.checkpoints)) == (0, {}, 0, [])
        source = await sample_log()
        await log.restore(await rows_of(source), await source.read_commands(limit=100))
        found = await log.inspect()
        assert (found.head, dict(found.types), found.commands) == (20, {"Noted": 10, "Revised": 10}, 5)

    async def test_what_is_recorded_of_types_is_kept_until_it_is_replaced(self, log: PortableLog) -> None:
        assert dict(await log.tagged_types()) == {}
        assert await log.record_tagged_types({"Noted": "[]", "Revised": "[1]"})
        assert await log.record_tagged_types({"Noted": '["é"]'})
        assert dict(await log.tagged_types()) == {"Noted": '["é"]', "Revised": "[1]"}

    async def test_a_type_with_events_behind_what_was_seen_is_not_recorded(self, log: PortableLog) -> None:
        await log.append(append_of(new_event("Note-1", kind=Revised), new_event("Note-1")))
        assert not await log.record_tagged_types({"Noted": "[]", "Other": "[]"}, seen=1)
        assert not await log.record_tagged_types({"Other": "[]", "Noted": "[]"}, seen=0)
        assert dict(await log.tagged_types()) == {}
        assert await log.record_tagged_types({"Revised": "[]"}, seen=1)
        assert await log.record_tagged_types({"Noted": "[]"}, seen=2)
        assert dict(await log.tagged_types()) == {"Noted": "[]", "Revised": "[]"}

    async def test_events_are_found_by_tags_that_they_get_later(self, log: PortableLog) -> None:
        for event in (new_event("Note-1", "x"), new_event("", "x"), new_event("Note-1", "z")):
            await log.append(append_of(event))
        before = await rows_of(log)
        changed = [_retagged(row, '["topic:x","topic:ü"]'.encode()) for row in before[:2]]
        await log.replace_tags([_change(*pair) for pair in zip(before, changed, strict=False)])
        assert await rows_of(log) == [*changed, before[2]]
        assert list(await log.read(topic("ü"), limit=9)) == list(await log.read(topic("x"), limit=9)) == changed
        assert list(await log.read_stream("Note-1", limit=9)) == [changed[0], before[2]]
        assert list(await log.check()) == []

    async def test_a_row_that_is_not_as_it_was_found_keeps_its_tags(self, log: PortableLog) -> None:
        await log.append(append_of(new_event("Note-1", "x")))
        (row,) = before = await rows_of(log)
        await log.replace_tags([_change(row, _retagged(row, b'["topic:y"]'))._replace(found=row.checksum + 1)])
        assert await rows_of(log) == before
        assert list(await log.read(topic("y"), limit=9)) == []
        assert list(await log.check()) == []

    async def test_the_last_events_of_streams_are_found_page_by_page_and_by_name(self, log: PortableLog) -> None:
        names = ["Note-10", "Note-1", "a", "Ä", "Note-2", "Z"]
        for name in [*names, "Note-1", "", "Ä", "Z"]:
            await log.append(append_of(new_event(name, "x", text="é" * len(name))))
        found, after = list[StoredEvent](), ""
        while page := await log.read_stream_ends(after=after, limit=4):
            assert len(page) in (4, 2)
            found, after = found + list(page), page[-1].stream_id
        assert [(row.stream_id, row.version) for row in found] == [
            ("Note-1", 2), ("Note-10", 1), ("Note-2", 1), ("Z", 2), ("a", 1), ("Ä", 2)
        ]  # fmt: skip
        assert [row.position for row in found] == [7, 1, 5, 10, 3, 9]
        some = await log.find_stream_ends(["Ä", "none", "Z", "Ä", ""])
        assert sorted(row.position for row in some) == [9, 10]
        assert list(await log.find_stream_ends([])) == list(await log.read_stream_ends(after="Ä", limit=1)) == []

    async def test_streams_are_measured_without_what_was_removed(self, log: PortableLog) -> None:
        for name in ("Note-1", "Note-2", "Note-1"):
            await log.append(append_of(new_event(name, "x", text="é")))
        rows = await rows_of(log)
        size = sum(len(row.payload) + len(row.metadata) + len(row.tags) for row in (rows[0], rows[2]))
        assert list(await log.measure_streams(["Note-1", "none", "Note-1"])) == [StreamSize("Note-1", 2, size)]
        await log.remove_events([_removal(rows[0])])
        assert list(await log.measure_streams(["Note-1"])) == [StreamSize("Note-1", 1, size // 2)]
        await log.remove_events([_removal(rows[2])])
        assert list(await log.measure_streams(["Note-1"])) == list(await log.measure_streams([])) == []

    async def test_removed_events_leave_their_places_and_are_found_by_nothing_else(self, log: PortableLog) -> None:
        for event in (new_event("Note-1", "x", "y"), new_event("Note-1", "x"), new_event("", "x")):
            await log.append(append_of(event))
        before = await rows_of(log)
        removals = [_removal(before[1]), _removal(before[0], "topic:y")]
        await log.remove_events([*removals, _removal(before[2])._replace(found=before[2].checksum + 1)])
        after = await rows_of(log)
        assert after[2] == before[2]
        for row, earlier, tags in zip(after, before[:2], (b'["topic:y"]', b"[]"), strict=False):
            expected = replace(earlier, type=REMOVED, schema_version=1, payload=b'{"d":"1"}', metadata=b"{}", tags=tags)
            assert replace(row, checksum=0) == replace(expected, checksum=0)
            assert is_intact(row)
        assert [row.position for row in await log.read(topic("x"), limit=9)] == [3]
        assert [row.position for row in await log.read(topic("y"), limit=9)] == [1]
        assert [row.position for row in await log.read(EventQuery.exactly(REMOVED), limit=9)] == [1, 2]
        assert list(await log.read_stream("Note-1", limit=9)) == after[:2]
        assert list(await log.find_events([before[0].event_id])) == after[:1]
        assert list(await log.check()) == []


def _removal(row: StoredEvent, *kept: str) -> Removal:
    """Return how an event is removed, but for some of its tags."""
    payload, tags = b'{"d":"1"}', msgspec.json.encode(kept)
    bare = replace(row, type=REMOVED, schema_version=1, payload=payload, metadata=b"{}", tags=tags)
    checksum = seal(content_checksum(bare), row.position, row.version, row.recorded_at)
    return Removal(
        row.position,
        row.checksum,
        payload,
        tags,
        checksum,
        [tag for tag in msgspec.json.decode(row.tags) if tag not in kept],
    )


def _with_metadata(event: NewEvent, metadata: bytes) -> NewEvent:
    """Return an event with other metadata, and the checksum over them."""
    changed = event._replace(metadata=metadata)
    return changed._replace(content_checksum=content_checksum(changed))


def _retagged(row: StoredEvent, tags: bytes) -> StoredEvent:
    """Return a row with other tags, and the checksum over them."""
    content = content_checksum(replace(row, tags=tags))
    return replace(row, tags=tags, checksum=seal(content, row.position, row.version, row.recorded_at))


def _change(row: StoredEvent, changed: StoredEvent) -> TagChange:
    return TagChange(row.position, row.checksum, changed.tags, changed.checksum)
