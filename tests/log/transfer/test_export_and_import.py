"""A log goes through a file and comes out the same, on every engine; an interrupted export or import goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.log.transfer.logs import EVENTS, SMALL, contents, fill, store_of

from twofold import EventQuery, EventStore, LogFileError, export_log, import_log
from twofold.engines.engine import Engine
from twofold.engines.memory import MemoryEventLog
from twofold.errors import HistoryChangedError, StorageUnavailableError
from twofold.log.copy import copy_log
from twofold.log.verify import verify_log
from twofold.messages.stored_event import StoredEvent
from twofold.ports.event_log import Appended
from twofold.ports.maintenance import StoredCommand
from twofold.testing.samples import Revised, append_of, new_command, new_event, topic

FORMATS = ["jsonl", "parquet"]


@pytest.fixture(params=FORMATS)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"log.{request.param}"


@pytest.fixture
async def source() -> MemoryEventLog:
    log = MemoryEventLog()
    await fill(log)
    await log.record_tagged_types({"Noted": "topics"})
    return log


class Interrupted(MemoryEventLog):
    """Fails after a number of calls that go through all of it."""

    def __init__(self, remaining: int) -> None:
        super().__init__()
        self.remaining = remaining

    def _count(self) -> None:
        if not self.remaining:
            raise StorageUnavailableError("unplugged")
        self.remaining -= 1

    async def restore(self, rows: Sequence[StoredEvent], commands: Sequence[StoredCommand] = ()) -> None:
        self._count()
        await super().restore(rows, commands)

    async def read_commands(self, *, after: bytes = b"", limit: int) -> Sequence[StoredCommand]:
        self._count()
        return await super().read_commands(after=after, limit=limit)

    async def scan(self, *arguments: object, **options: object):  # type: ignore[no-untyped-def]
        self._count()
        return await super().scan(*arguments, **options)  # type: ignore[arg-type]


async def test_a_log_comes_out_of_a_file_as_it_went_in(engine: Engine, source: MemoryEventLog, file: Path) -> None:
    exported = await export_log(store_of(source), file)
    assert (exported.events, exported.already, exported.end) == (EVENTS, 0, EVENTS)
    imported = await import_log(EventStore(engine.log, options=SMALL), file)
    assert (imported.events, imported.already, imported.last) == (EVENTS, 0, EVENTS)
    assert imported.commands == exported.commands == len(await source.read_commands(limit=1000))
    assert await contents(engine.log) == await contents(source)
    assert await engine.log.mark(0) == await source.mark(0)
    assert await verify_log(engine.log) == EVENTS  # type: ignore[arg-type]


async def test_an_engine_exports_what_another_one_does(engine: Engine, source: MemoryEventLog, tmp_path: Path) -> None:
    await export_log(store_of(source), tmp_path / "a.jsonl")
    await import_log(EventStore(engine.log), tmp_path / "a.jsonl")
    await export_log(store_of(engine.log), tmp_path / "b.jsonl")
    assert (tmp_path / "b.jsonl").read_bytes() == (tmp_path / "a.jsonl").read_bytes()


async def test_a_command_that_was_imported_takes_effect_only_once(source: MemoryEventLog, file: Path) -> None:
    target = MemoryEventLog()
    await export_log(store_of(source), file)
    await import_log(store_of(target), file)
    first = (await source.read_commands(limit=1))[0]
    repeat = new_command(first.content_hash)._replace(command_id=first.command_id)
    outcome = await target.append(append_of(new_event(), command=repeat))
    assert isinstance(outcome, Appended)
    assert (outcome.first, outcome.repeated, outcome.result) == (first.first_position, True, first.result)


@pytest.mark.parametrize("calls", range(0, 24, 3))
async def test_an_interrupted_export_goes_on_wherever_it_was(source: MemoryEventLog, file: Path, calls: int) -> None:
    log = Interrupted(1000)
    await copy_log(source, log)
    log.remaining = calls
    try:
        await export_log(store_of(log), file)
    except StorageUnavailableError:
        assert not file.exists()
        log.remaining = 1000
        await log.append(append_of(new_event(), command=new_command()))  # is not of this export
        assert (await export_log(store_of(log), file)).end == EVENTS
    target = MemoryEventLog()
    await import_log(store_of(target), file)
    assert await contents(target) == await contents(source)
    assert [each.name for each in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("calls", range(0, 30, 5))
async def test_an_interrupted_import_goes_on_wherever_it_was(source: MemoryEventLog, file: Path, calls: int) -> None:
    target = Interrupted(calls)
    await export_log(store_of(source), file)
    try:
        await import_log(store_of(target), file)
    except StorageUnavailableError:
        target.remaining, head = 1000, await target.head()
        assert (await import_log(store_of(target), file)).already == head
    target.remaining = 1000
    assert await contents(target) == await contents(source)


async def test_a_file_that_was_imported_already_changes_nothing(source: MemoryEventLog, file: Path) -> None:
    target = MemoryEventLog()
    await export_log(store_of(source), file)
    await import_log(store_of(target), file)
    await target.append(append_of(new_event("Note-9")))
    before = await contents(target)
    assert (await import_log(store_of(target), file)).already == EVENTS
    assert await contents(target) == before


async def test_a_log_goes_over_in_several_files(source: MemoryEventLog, file: Path) -> None:
    target, beginning, rest = store_of(MemoryEventLog()), file.with_stem("beginning"), file.with_stem("rest")
    await export_log(store_of(source), beginning, end=40)
    await export_log(store_of(source), rest, after=40)
    assert (await import_log(target, beginning)).last == 40
    assert (await import_log(target, rest)).last == EVENTS
    assert await contents(target.log) == await contents(source)


async def test_each_of_several_files_may_be_imported_again(engine: Engine, source: MemoryEventLog, file: Path) -> None:
    target, beginning, rest = EventStore(engine.log, options=SMALL), file.with_stem("beginning"), file.with_stem("rest")
    await export_log(store_of(source), beginning, end=40)
    await export_log(store_of(source), rest, after=40)
    assert [(await import_log(target, each)).already for each in (beginning, rest, rest, beginning)] == [0, 0, 60, 40]
    assert await contents(engine.log) == await contents(source)


async def test_a_file_that_begins_behind_the_end_of_the_log_is_refused(source: MemoryEventLog, file: Path) -> None:
    target, beginning = store_of(MemoryEventLog()), file.with_stem("beginning")
    await export_log(store_of(source), beginning, end=40)
    await export_log(store_of(source), file, after=50)
    await import_log(target, beginning)
    with pytest.raises(LogFileError, match="begins behind position 50, and the log ends at 40"):
        await import_log(target, file)


@pytest.mark.parametrize(
    ("query", "after", "end"),
    [
        (EventQuery.of(Revised), 0, None),
        (topic("t1"), 0, None),
        (topic("t1"), 20, 70),
        (EventQuery.of(Revised) | topic("t2", "é"), 0, 90),
        (None, 33, 66),
    ],
)
async def test_events_that_were_chosen_follow_each_other_in_a_log_of_their_own(
    engine: Engine, source: MemoryEventLog, file: Path, query: EventQuery | None, after: int, end: int | None
) -> None:
    exported = await export_log(store_of(source), file, query=query, after=after, end=end)
    last = EVENTS if end is None else end
    wanted = await source.read(query or EventQuery.all(), after=after, before=last + 1, limit=1000)
    assert 0 < exported.events == len(wanted) < EVENTS
    await import_log(EventStore(engine.log, options=SMALL), file)
    again = await import_log(EventStore(engine.log, options=SMALL), file)
    assert again.already == len(wanted)
    rows, commands, _ = await contents(engine.log)
    same = ("event_id", "stream_id", "type", "payload", "metadata", "tags", "recorded_at", "schema_version")
    assert [[getattr(row, name) for name in same] for row in rows] == [
        [getattr(row, name) for name in same] for row in wanted
    ]
    assert await verify_log(engine.log) == len(wanted)  # type: ignore[arg-type]
    assert await engine.log.mark(0) != await source.mark(0)
    assert bool(commands) == (query is None)


async def test_a_file_of_another_log_is_refused_and_nothing_is_stored(source: MemoryEventLog, file: Path) -> None:
    other = MemoryEventLog()
    await fill(other, 30)
    before = await contents(other)
    await export_log(store_of(source), file)
    with pytest.raises(LogFileError, match="of another log than the target holds; import it into an empty database"):
        await import_log(store_of(other), file)
    await export_log(store_of(source), file.with_stem("some"), query=topic("t1"))
    with pytest.raises(LogFileError, match="the log holds another event at position 1"):
        await import_log(store_of(other), file.with_stem("some"))
    assert await contents(other) == before


async def test_an_export_is_not_gone_on_with_in_other_words(source: MemoryEventLog, file: Path) -> None:
    log, other = Interrupted(1000), MemoryEventLog()
    await copy_log(source, log)
    await fill(other)
    log.remaining = 5
    with pytest.raises(StorageUnavailableError):
        await export_log(store_of(log), file)
    log.remaining = 1000
    for query, after, end in ((topic("t1"), 0, None), (None, 3, None), (None, 0, 90)):
        with pytest.raises(LogFileError, match="an export of other events was begun there"):
            await export_log(store_of(log), file, query=query, after=after, end=end)
    with pytest.raises(LogFileError, match="an export of another log was begun there"):
        await export_log(store_of(other), file)
    assert (await export_log(store_of(log), file)).already > 0


async def test_an_export_of_a_log_that_was_set_back_is_not_gone_on_with(source: MemoryEventLog, file: Path) -> None:
    log = Interrupted(1000)
    await copy_log(source, log)
    log.remaining = 8
    with pytest.raises(StorageUnavailableError):
        await export_log(store_of(log), file)
    log.remaining = 1000
    rows, _, _ = await contents(log)
    log._events[:] = [replace(row, event_id=bytes(15) + bytes([n % 256])) for n, row in enumerate(rows)]
    with pytest.raises(HistoryChangedError):
        await export_log(store_of(log), file)


async def test_a_file_is_not_written_over(source: MemoryEventLog, file: Path) -> None:
    await export_log(store_of(source), file)
    with pytest.raises(LogFileError, match="it exists already"):
        await export_log(store_of(source), file)


async def test_a_name_must_tell_a_format(source: MemoryEventLog, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"let it end in \.jsonl or \.parquet"):
        await export_log(store_of(source), tmp_path / "log.csv")
    with pytest.raises(ValueError, match=r"let it end in \.jsonl or \.parquet"):
        await import_log(store_of(source), tmp_path / "log.csv")


async def test_more_than_there_is_cannot_be_exported(source: MemoryEventLog, file: Path) -> None:
    with pytest.raises(ValueError, match="the log ends at position 100"):
        await export_log(store_of(source), file, end=EVENTS + 1)
    assert list(file.parent.iterdir()) == []


async def test_an_empty_log_is_an_empty_file(file: Path) -> None:
    empty, target = MemoryEventLog(), MemoryEventLog()
    assert (await export_log(store_of(empty), file)).events == 0
    assert (await import_log(store_of(target), file)).last == 0
    assert await target.mark(0) == await empty.mark(0)


async def test_progress_is_told_up_to_the_end(source: MemoryEventLog, file: Path) -> None:
    told: list[tuple[str, int, int]] = []
    await export_log(store_of(source), file, progress=lambda *step: told.append(step))
    await import_log(store_of(MemoryEventLog()), file, progress=lambda *step: told.append(step))
    for stage in ("exporting", "importing"):
        positions = [position for name, position, end in told if name == stage and end == EVENTS]
        assert positions == sorted(positions)
        assert positions[-1] == EVENTS
        assert len(positions) > 5
