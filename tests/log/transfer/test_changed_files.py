"""A file that is not what an export wrote is refused by the name of what is wrong, and nothing of it is stored."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import duckdb
import msgspec
import pytest
from tests.log.transfer.logs import EVENTS, contents, fill, store_of

from twofold import LogFileError, export_log, import_log
from twofold.engines.memory import MemoryEventLog
from twofold.log.transfer.header import Trailer

Lines = list[bytes]


async def export_to(path: Path) -> Path:
    """Export a log to a place, and return that."""
    log = MemoryEventLog()
    await fill(log)
    await export_log(store_of(log), path)
    return path


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    return await export_to(tmp_path / "log.jsonl")


async def refused(file: Path) -> str:
    """Import a file that is refused, and return what the error says behind the name of the file."""
    target = MemoryEventLog()
    with pytest.raises(LogFileError) as caught:
        await import_log(store_of(target), file)
    assert await contents(target) == ([], [], {})
    return str(caught.value).removeprefix(str(file))


def changed(file: Path, change: Callable[[Lines], object]) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    change(lines)
    file.write_bytes(b"".join(lines))


def resealed(file: Path) -> None:
    """Give a changed file a digest that fits, as a program that knows the format could."""
    *lines, end = file.read_bytes().splitlines(keepends=True)
    trailer = msgspec.json.decode(end, type=Trailer)
    digest = blake2b(b"".join(lines), digest_size=16).hexdigest()
    lines.append(msgspec.json.encode(msgspec.structs.replace(trailer, digest=digest)) + b"\n")
    file.write_bytes(b"".join(lines))


@pytest.mark.parametrize("place", [1, 42, EVENTS])
async def test_a_changed_line_is_named_by_its_number(file: Path, place: int) -> None:
    def change(lines: Lines) -> None:
        lines[place] = lines[place].replace(b'"text":', b'"Text":')

    changed(file, change)
    assert await refused(file) == f", line {place + 1}: event {place} was changed or is damaged"
    resealed(file)
    assert await refused_later(file) == f", line {place + 1}: event {place} does not match its checksum"


async def refused_later(file: Path) -> str:
    """Import a file whose digest fits, so that only the rows themselves can tell; return what the error says."""
    target = MemoryEventLog()
    with pytest.raises(LogFileError) as caught:
        await import_log(store_of(target), file)
    assert await target.head() < EVENTS
    return str(caught.value).removeprefix(str(file))


async def test_a_line_that_is_none_is_named_by_its_number(file: Path) -> None:
    changed(file, lambda lines: lines.__setitem__(30, b"{}\n"))
    assert await refused(file) == ", line 31: it is no line of an export, or was changed"


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines.pop(50),
        lambda lines: lines.insert(50, lines[50]),
        lambda lines: lines.__setitem__(slice(20, 22), lines[21:19:-1]),
        lambda lines: lines.__setitem__(-2, lines[-2].replace(b"n-", b"m-")),
    ],
)
async def test_lines_that_are_missing_or_doubled_or_exchanged_are_noticed(
    file: Path, change: Callable[[Lines], object]
) -> None:
    changed(file, change)
    assert await refused(file) == ": lines were changed, are missing or were added; export it again"


async def test_lines_that_are_missing_or_exchanged_are_noticed_though_the_digest_fits(file: Path) -> None:
    original = file.read_bytes()
    changed(file, lambda lines: lines.pop(50))
    resealed(file)
    assert await refused_later(file) == ", line 51: event 51 follows event 49"
    file.write_bytes(original)
    changed(file, lambda lines: lines.insert(50, lines[50]))
    resealed(file)
    assert await refused_later(file) == ", line 52: event 50 follows event 50"


@pytest.mark.parametrize("bytes_left", [0, 10, 200, 5000, -1, -10, -300])
async def test_a_file_that_was_cut_off_is_refused(file: Path, bytes_left: int) -> None:
    file.write_bytes(file.read_bytes()[:bytes_left])
    said = await refused(file)
    assert re.search("its end is missing|it is no export of a log", said), said


async def test_another_file_is_told_from_an_export(file: Path) -> None:
    for content in (b"", b"\n", b'{"id":1}\n{"id":2}\n', b"position,event_id\n", b"\0" * 5000, b"PAR1" * 50):
        file.write_bytes(content)
        assert "line 1: it is no export of a log: its first line does not say so" in await refused(file)


async def test_a_file_of_a_later_release_is_refused_by_its_format(file: Path) -> None:
    changed(file, lambda lines: lines.__setitem__(0, lines[0].replace(b'"twofold_log":1', b'"twofold_log":7,"new":0')))
    assert "it has format 7, this release reads up to 1; update twofold" in await refused(file)


async def test_what_a_power_cut_left_of_an_export_is_not_believed(tmp_path: Path) -> None:
    """The last lines are zeros, one in the middle is damaged: the export goes on before the first of them."""
    log, path = MemoryEventLog(), tmp_path / "log.jsonl"
    await fill(log)
    await export_log(store_of(log), path)
    whole = path.read_bytes()
    for damage in (
        lambda lines: [*lines[:60], b"\0" * 999],
        lambda lines: [*lines[:60], lines[60][:40]],
        lambda lines: [*lines[:40], lines[40].replace(b'"text"', b'"Text"'), *lines[41:60]],
        lambda lines: [*lines[:40], *lines[39:60]],
        lambda lines: [*lines[:30], *lines[31:60]],
        lambda lines: [lines[0], *lines[2:60]],
        lambda lines: lines,
    ):
        path.rename(path.with_name("log.jsonl.part"))
        path.with_name("log.jsonl.part").write_bytes(b"".join(damage(whole.splitlines(keepends=True))))
        await export_log(store_of(log), path)
        assert path.read_bytes() == whole


@pytest.mark.parametrize("name", ["events-000002.parquet", "events-000005.parquet", "commands-000001.parquet"])
@pytest.mark.parametrize("left", [0, 300, None])
async def test_what_a_power_cut_left_of_files_of_parquet_is_not_believed(
    tmp_path: Path, name: str, left: int | None
) -> None:
    """A file is empty, halved, or missing: the export goes on before it, whatever stands behind it."""
    log, target, path = MemoryEventLog(), MemoryEventLog(), tmp_path / "log.parquet"
    await fill(log)
    await export_log(store_of(log), path)
    unfinished = path.rename(path.with_name("log.parquet.part"))
    (unfinished / "trailer.json").unlink()
    damaged = unfinished / name
    if left is None:
        damaged.unlink()
    else:
        damaged.write_bytes(damaged.read_bytes()[:left])
    exported = await export_log(store_of(log), path)
    assert exported.events == EVENTS
    await import_log(store_of(target), path)
    assert await contents(target) == await contents(log)


async def test_only_one_process_writes_to_a_file(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    log = MemoryEventLog()
    await fill(log)
    for name in ("log.jsonl.part", "log.parquet.part/lock"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(LogFileError, match="another process exports to it"):
                await export_log(store_of(log), tmp_path / name.partition(".part")[0])


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    return await export_to(tmp_path / "log.parquet")


async def test_a_changed_row_of_parquet_is_named_by_its_file_and_number(folder: Path) -> None:
    file = folder / "events-000002.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t AS FROM '{file}'")
        connection.execute("UPDATE t SET payload = '{}' WHERE position = 25")
        connection.execute(f"COPY (FROM t ORDER BY position) TO '{file}' (FORMAT parquet)")
    assert (await refused(folder)).endswith("events-000002.parquet, row 4: event 25 was changed or is damaged")


async def test_what_is_no_folder_of_parquet_or_not_all_of_it_is_refused(folder: Path) -> None:
    (folder / "events-000003.parquet").rename(folder / "events-000009.parquet")
    assert await refused(folder) == ": files were changed, are missing or were added; export it again"
    (folder / "events-000002.parquet").write_bytes(b"PAR1 and more")
    assert "it cannot be read, and was changed or is damaged" in await refused(folder)
    (folder / "trailer.json").unlink()
    assert "its end is missing" in await refused(folder)
    (folder / "header.json").unlink()
    assert "it is no export of a log" in await refused(folder)
    file = folder.with_name("one.parquet")
    file.write_bytes(b"PAR1")
    assert "an export to Parquet is a folder, and this is none" in await refused(file)


async def test_parquet_is_read_by_anything(folder: Path) -> None:
    with duckdb.connect() as connection:
        asked = f"SELECT count(*), max(position), min(stream_type) FROM '{folder}/events-*.parquet'"
        found = connection.execute(asked).fetchall()
    assert found == [(EVENTS, EVENTS, "")]
