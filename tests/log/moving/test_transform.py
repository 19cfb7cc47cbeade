"""A log becomes another one: each event is what the transform makes of it, at the next place, on every engine."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid5

import msgspec
import pytest
from tests.log.transfer.logs import EVENTS, SMALL, contents, fill, store_of

from twofold import (
    Application,
    EventQuery,
    EventStore,
    LogsDifferError,
    Metadata,
    Options,
    PlainEvent,
    SourceEvent,
    Transform,
    TransformFailedError,
    metadata,
    open_event_store,
    transform_log,
)
from twofold.engines.engine import Engine
from twofold.engines.memory import MemoryEventLog
from twofold.errors import CorruptEventError, StorageUnavailableError
from twofold.log.moving.renumbering import Renumbering
from twofold.log.verify import verify_log
from twofold.messages.event import Event, event_type
from twofold.messages.stored_event import StoredEvent, content_checksum, seal
from twofold.ports.maintenance import PortableLog, StoredCommand
from twofold.tenants import all_tenants
from twofold.testing.samples import Noted, append_of, new_event


def change(source: SourceEvent) -> Iterable[PlainEvent]:
    """Drop the events of a topic, split those of a type, rename a type and a stream, add a tag, leave the others."""
    event = source.event
    if "topic:t0" in event.tags:
        return []
    if event.type == "Revised":
        return [event, replace(event, type="Approved", data={"by": "ann"}, tags=("by:ann",)), replace(event, data={})]
    if event.stream_id == "Note-1":
        return [replace(event, type="Remarked", stream_id="Remark-1", stream_type="Remark")]
    if event.stream_id == "Note-2":
        return [replace(event, tags=(*event.tags, "shelf:2"))]
    return [event]


@pytest.fixture
async def source() -> MemoryEventLog:
    log = MemoryEventLog()
    await fill(log)
    await log.record_tagged_types({"Noted": '[["topic","topics"]]', "Revised": '[["topic","topics"]]'})
    return log


async def rows_of(log: Any) -> list[StoredEvent]:
    return list(await log.read(EventQuery.all(), limit=100_000))


async def test_events_are_renamed_split_dropped_and_tagged_and_keep_ids_order_and_times(
    engine: Engine, source: MemoryEventLog
) -> None:
    moved = await transform_log(store_of(source), EventStore(engine.log, options=SMALL), change)
    expected = []
    for row in await rows_of(source):
        if '"topic:t0"' in row.tags.decode():
            continue
        if row.type == "Revised":
            second, third = (uuid5(UUID(bytes=row.event_id), str(place)).bytes for place in (1, 2))
            expected += [(row.event_id, "Revised", row.payload, row), (second, "Approved", b'{"by":"ann"}', row)]
            expected.append((third, "Revised", b"{}", row))
        else:
            kind = "Remarked" if row.stream_id == "Note-1" else row.type
            expected.append((row.event_id, kind, row.payload, row))
    rows = await rows_of(engine.log)
    assert [(row.event_id, row.type, row.payload) for row in rows] == [each[:3] for each in expected]
    assert [row.recorded_at for row in rows] == [each[3].recorded_at for each in expected]
    assert (moved.read, moved.written, moved.already) == (EVENTS, len(expected), 0)
    assert await verify_log(engine.log) == len(expected)  # type: ignore[arg-type]
    tagged = await engine.log.read(EventQuery.exactly(tags=["shelf:2"]), limit=1000)
    assert tagged
    assert {row.stream_id for row in tagged} == {"Note-2"}
    remarks = await engine.log.read_stream("Remark-1", limit=1000)
    assert [row.version for row in remarks] == list(range(1, len(remarks) + 1))
    assert not [row for row in await engine.log.read_stream("Note-1", limit=1000) if row.type == "Noted"]


async def test_nothing_changes_where_nothing_is_changed(engine: Engine, source: MemoryEventLog) -> None:
    moved = await transform_log(store_of(source), EventStore(engine.log), lambda source: [source.event])
    assert await contents(engine.log) == await contents(source)
    assert {of.changed + of.split + of.dropped for of in moved.types.values()} == {0}
    assert moved.examples == []
    assert await engine.log.mark(0) != await source.mark(0), "it is another log"


async def test_the_report_says_what_became_of_each_type(source: MemoryEventLog) -> None:
    moved = await transform_log(store_of(source), store_of(MemoryEventLog()), change)
    rows = await rows_of(source)
    for kind, of in moved.types.items():
        own = [row for row in rows if row.type == kind]
        kept = [row for row in own if b'"topic:t0"' not in row.tags]
        assert (of.read, of.dropped) == (len(own), len(own) - len(kept))
        assert of.written == sum(of.into.values()) == len(kept) * (3 if kind == "Revised" else 1)
        assert of.split == (len(kept) if kind == "Revised" else 0)
    remarked = [row for row in rows if row.type == "Noted" and row.stream_id == "Note-1" and b":t0" not in row.tags]
    assert moved.types["Noted"].into["Remarked"] == len(remarked) > 0
    assert len(moved.examples) == 6


async def test_a_command_is_known_by_the_events_that_are_left_of_it(engine: Engine, source: MemoryEventLog) -> None:
    target = EventStore(engine.log, options=SMALL)
    moved = await transform_log(store_of(source), target, change)
    by_id = {row.event_id: row for row in await rows_of(engine.log)}
    originals = await rows_of(source)
    known = 0
    for command in await source.read_commands(limit=1000):
        own = originals[command.first_position - 1 : command.last_position]
        left = [by_id[row.event_id] for row in own if row.event_id in by_id]
        found = await engine.log.find_command(command.command_id)
        assert (found is None) == (not left)
        if found is not None:
            known += 1
            assert found.record.result == command.result
            assert found.appended.first == left[0].position
            assert {row.recorded_at for row in found.rows} == {row.recorded_at for row in own}
    assert (moved.commands, moved.forgotten) == (known, len(await source.read_commands(limit=1000)) - known)
    assert known
    assert moved.forgotten


async def test_what_is_recorded_of_tags_stays_only_for_types_whose_events_stay(source: MemoryEventLog) -> None:
    target = MemoryEventLog()
    await transform_log(
        store_of(source),
        store_of(target),
        lambda s: [replace(s.event, tags=())] if s.event.type == "Noted" else [s.event],
    )
    assert list(await target.tagged_types()) == ["Revised"]


@pytest.mark.parametrize("counts", [[1] * 9, [0] * 5, [1, 0, 0, 2, 1, 1, 3, 0, 1], [2, 2, 1, 1, 0, 1, 0]])
def test_positions_are_found_again(counts: list[int]) -> None:
    with Renumbering() as renumbering:
        for begin in range(0, len(counts), 2):
            chunk = counts[begin : begin + 2]
            renumbering.note((begin + place, count) for place, count in enumerate(chunk, 1))
        found = [renumbering.last_of(position) for position in range(len(counts) + 1)]
    assert found == [sum(counts[:end]) for end in range(len(counts) + 1)]


async def test_a_preview_stores_nothing_and_says_the_same(source: MemoryEventLog) -> None:
    preview = await transform_log(store_of(source), None, change)
    moved = await transform_log(store_of(source), store_of(MemoryEventLog()), change)
    assert preview == moved._replace(digest="")
    [dropped, *_] = [each for each in preview.examples if not each.after]
    assert "topic:t0" in dropped.before.tags


class Interrupted(MemoryEventLog):
    """Fails after a number of chunks that it stores."""

    remaining = 1000

    async def restore(self, rows: Sequence[StoredEvent], commands: Sequence[StoredCommand] = ()) -> None:
        if not self.remaining:
            raise StorageUnavailableError("unplugged")
        self.remaining -= 1
        await super().restore(rows, commands)


def numbered() -> Transform:
    """Return a transform that keeps what it has seen."""
    seen = 0

    def number(source: SourceEvent) -> Iterable[PlainEvent]:
        nonlocal seen
        seen += 1
        return [replace(source.event, data={"number": seen})] * (seen % 3)

    return number


@pytest.mark.parametrize("chunks", range(0, 21, 4))
async def test_an_interrupted_one_goes_on_and_brings_later_what_is_new(source: MemoryEventLog, chunks: int) -> None:
    whole, target = MemoryEventLog(), Interrupted()
    target.remaining = chunks
    with pytest.raises(StorageUnavailableError):
        await transform_log(store_of(source), store_of(target), numbered())
    stored = await target.head()
    target.remaining = 1000
    moved = await transform_log(store_of(source), store_of(target), numbered())
    assert moved.already == stored
    await fill(source, EVENTS + 50)
    moved = await transform_log(store_of(source), store_of(target), numbered())
    assert 0 < moved.already < moved.written
    await transform_log(store_of(source), store_of(whole), numbered())
    assert await contents(target) == await contents(whole)


async def test_another_transform_does_not_go_on_with_what_one_has_begun(source: MemoryEventLog) -> None:
    target = store_of(MemoryEventLog())
    await transform_log(store_of(source), target, change)
    other = next(each for each in await rows_of(target.log) if each.type == "Remarked")
    with pytest.raises(LogsDifferError, match=f"position {other.position}: the target holds another event there"):
        await transform_log(
            store_of(source),
            target,
            lambda s: [replace(e, type="Noted") if e.type == "Remarked" else e for e in change(s)],
        )
    with pytest.raises(LogsDifferError, match="the target goes on where the source ends"):
        await transform_log(store_of(source), target, lambda s: change(s) if s.position < EVENTS - 10 else [])
    assert other in await rows_of(target.log)


async def test_a_target_that_does_not_keep_what_it_is_given_is_noticed(source: MemoryEventLog) -> None:
    class Forgetful(MemoryEventLog):
        async def restore(self, rows: Sequence[StoredEvent], commands: Sequence[StoredCommand] = ()) -> None:
            first = rows[0] if rows else None
            if first and first.position < 20:
                other = first.payload.replace(b"text", b"Text")
                row = msgspec.structs.replace(first, payload=other, checksum=0)
                sealed = seal(content_checksum(row), row.position, row.version, row.recorded_at)
                rows = [msgspec.structs.replace(row, checksum=sealed), *rows[1:]]
            await super().restore(rows, commands)

    with pytest.raises(LogsDifferError, match="what was stored is not what was read from the source"):
        await transform_log(store_of(source), store_of(Forgetful()), change)


Bad = Callable[[SourceEvent], Any]


def raising(source: SourceEvent) -> Iterable[PlainEvent]:
    yield source.event
    raise KeyError("price")


def changed(source: SourceEvent, **fields: Any) -> PlainEvent:
    return replace(source.event, **fields)


REFUSED: list[tuple[Bad, str]] = [
    (lambda s: None, "it returned None; return the events, and [] to drop it"),
    (lambda s: s.event, "it returned one event; return a list, such as [event]"),
    (lambda s: "Noted", "it returned 'Noted'; return the events"),
    (lambda s: {"a": 1}, "it returned {'a': 1}; return the events"),
    (lambda s: [s], "it is no PlainEvent"),
    (lambda s: [None], "it is no PlainEvent"),
    (lambda s: [s.event, ("Noted",)], "it is no PlainEvent"),
    (lambda s: 1 / 0, "ZeroDivisionError: division by zero"),
    (raising, "KeyError: 'price'"),
    (lambda s: [changed(s, type="")], "`type`: a type has 1 to 500 characters"),
    (lambda s: [changed(s, type=5)], "a type is a text, got 5"),
    (lambda s: [changed(s, type="a\0")], "no NUL"),
    (lambda s: [changed(s, stream_id="a", stream_type="")], "`stream_type`: a stream type has 1 to 500"),
    (lambda s: [changed(s, stream_id="", stream_type="A")], "`stream_id`: a stream has 1 to 500"),
    (lambda s: [changed(s, schema_version=0)], "`schema_version` is a number from 1, got 0"),
    (lambda s: [changed(s, schema_version="1")], "`schema_version` is a number from 1, got '1'"),
    (lambda s: [changed(s, data=[1])], "`data` is a dict"),
    (lambda s: [changed(s, data={1: 2})], "`data` is a dict"),
    (lambda s: [changed(s, data={"a": object()})], "Encoding objects of type object is unsupported"),
    (lambda s: [changed(s, data={"a": "\0"})], "NUL character"),
    (lambda s: [changed(s, data={"a": "x" * (1 << 24)})], "bytes, the limit is"),
    (lambda s: [changed(s, tags="topic:a")], "`tags` is a tuple of texts"),
    (lambda s: [changed(s, tags=("topic",))], "a tag has a name and a value"),
    (lambda s: [changed(s, tags=(5,))], "a tag is a text, got 5"),
    (lambda s: [changed(s, metadata={})], "`metadata` is Metadata"),
    (lambda s: [changed(s, tenant="a/b")], "a/b"),
]


@pytest.mark.parametrize(("bad", "said"), REFUSED, ids=[said for _, said in REFUSED])
async def test_what_no_log_could_hold_is_refused_with_the_event(source: MemoryEventLog, bad: Bad, said: str) -> None:
    target = MemoryEventLog()
    with pytest.raises(TransformFailedError, match=re.escape(said)) as caught:
        await transform_log(store_of(source), store_of(target), lambda s: bad(s) if s.position == 5 else [s.event])
    row = (await rows_of(source))[4]
    assert (caught.value.position, caught.value.event_id.bytes) == (5, row.event_id)
    assert str(caught.value).startswith(f"the transform failed on event 5 ({row.type}, {caught.value.event_id}): ")
    assert await rows_of(target) == []


async def test_a_dict_that_is_changed_in_place_is_changed_also_to_what_python_calls_equal(
    source: MemoryEventLog,
) -> None:
    def correct(source: SourceEvent) -> Iterable[PlainEvent]:
        for value in (1, True, 1.0):
            cast("dict[str, Any]", source.event.data)["text"] = value
            yield source.event

    once, twice = MemoryEventLog(), MemoryEventLog()
    await transform_log(store_of(source), store_of(once), lambda s: [changed(s, data={"text": 1})])
    await transform_log(store_of(once), store_of(twice), correct)
    assert [row.payload for row in (await rows_of(twice))[:3]] == [b'{"text":1}', b'{"text":true}', b'{"text":1.0}']


async def test_a_damaged_event_is_named_and_nothing_behind_it_is_moved(source: MemoryEventLog) -> None:
    row = source._events[49]
    source._events[49] = msgspec.structs.replace(row, payload=b"{}")
    target = MemoryEventLog()
    with pytest.raises(CorruptEventError, match="event 50 "):
        await transform_log(store_of(source), store_of(target), change)
    assert await target.head() < 50


@event_type("Greeted")
class Greeted(msgspec.Struct, Event, frozen=True):
    name: str


async def test_events_stay_those_of_their_tenants(tmp_path: Path) -> None:
    async with Application(f"sqlite:///{tmp_path}/a.db", tenants=True, synchronize=False) as app:
        for tenant in ("acme", "umbra"):
            with metadata(tenant=tenant):
                await app.store.append_events("Hall-1", "Hall", [Greeted("ann")], expected_version=0)
    seen = []

    def rename(source: SourceEvent) -> Iterable[PlainEvent]:
        seen.append((source.event.tenant, source.event.stream_id, source.event.tags))
        return [replace(source.event, stream_id="Room-1", stream_type="Room", tags=("room:1",))]

    async with (
        open_event_store(f"sqlite:///{tmp_path}/a.db") as source,
        open_event_store(f"sqlite:///{tmp_path}/b.db") as target,
    ):
        await transform_log(source, target, rename)
        names = [(row.stream_id, row.version, row.tags) for row in await rows_of(target.log)]
    assert seen == [("acme", "Hall-1", ()), ("umbra", "Hall-1", ())]
    assert names == [
        ("acme/Room-1", 1, b'["acme/","acme/room:1"]'),
        ("umbra/Room-1", 1, b'["umbra/","umbra/room:1"]'),
    ]
    async with Application(f"sqlite:///{tmp_path}/b.db", tenants=True, synchronize=False) as app:
        app.store.events.register(Greeted)
        with metadata(tenant="umbra"):
            assert [each.event async for each in app.store.read_stream("Room-1")] == [Greeted("ann")]
        with all_tenants():
            assert await app.store.head() == 2


async def test_metadata_stays_byte_for_byte_unless_it_is_changed() -> None:
    log, target = MemoryEventLog(), MemoryEventLog()
    await log.append(append_of(new_event("Note-1", metadata=b'{ "user":"ann","later":1}')))
    await log.append(append_of(new_event("Note-1", metadata=b'{ "user":"ann"}')))
    await transform_log(
        store_of(log),
        store_of(target),
        lambda s: [s.event if s.position == 1 else replace(s.event, metadata=Metadata(user="bob"))],
    )
    assert [row.metadata for row in await rows_of(target)] == [b'{ "user":"ann","later":1}', b'{"user":"bob"}']


async def test_a_log_ten_times_as_long_takes_no_more_memory(tmp_path: Path) -> None:
    peaks: list[int] = []
    options = Options(log=SMALL)
    for events in (200, 200, 2000):  # the first round loads what is loaded once
        log = MemoryEventLog()
        for first in range(0, events, 100):
            await log.append(append_of(*(new_event(f"Note-{first + n}", "a", kind=Noted) for n in range(100))))
        async with (
            open_event_store(f"sqlite:///{tmp_path}/a{len(peaks)}.db", options=options) as source,
            open_event_store(f"sqlite:///{tmp_path}/b{len(peaks)}.db", options=options) as target,
        ):
            await cast("PortableLog", source.log).restore(await rows_of(log))
            tracemalloc.start()
            await transform_log(source, target, lambda s: [s.event] * (s.position % 2))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[2] < peaks[1] + 1800 * 800 / 4, peaks
