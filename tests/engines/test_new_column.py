"""A column of the log stands in three files: here one is added to a copy of the source, and all engines store it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import twofold

PATIENCE = 120.0
SOURCE = Path(twofold.__file__).parent
PAGE = SOURCE.parents[1] / "docs" / "explanation" / "architecture.md"

LIST = "messages/stored_event.py"
SQLITE = "engines/sqlite/migrations/0001_schema.sql"
POSTGRES = "engines/postgres/migrations/0001_schema.sql"

EDITS = {
    LIST: [
        ('    tags: Json\n    """JSON array of strings."""\n', "    region: Name\n"),
        ("    metadata: bytes\n    tags: bytes\n", "    region: str\n"),
        (
            '    tags = _encode_tags(tag_names) if tag_names else b"[]"\n',
            '    region = tag_names[0] if tag_names else ""\n    covered += region.encode() + b"\\0"\n',
        ),
        ("(event_id, payload, metadata, tags", ", region"),
        (
            '    tags = [_encode_tags(each) if each else b"[]" for each in tag_names]\n',
            '    regions = [each[0] if each else "" for each in tag_names]\n'
            '    names_of_each = [covered + region.encode() + b"\\0" for region in regions]\n',
        ),
        ("(*map(repeat, names), ids, payloads, metadatas, tags", ", regions"),
    ],
    SQLITE: [("    checksum       INTEGER NOT NULL", ",\n    region         TEXT    NOT NULL")],
    POSTGRES: [
        ("    checksum bigint NOT NULL,\n", '    region text COLLATE "C" NOT NULL,\n'),
        ("    new_payload json, new_metadata json, new_tags json,", " new_region text,"),
        ("new_id, new_payload, new_metadata, new_tags", ", new_region"),
        ("    e_payload json[], e_metadata json[], e_tags json[],", " e_region text[],"),
        ("            e_tags[p.i]\n", "            , e_region[p.i]\n"),
        ("(19, convert_to(e.tags::text, 'UTF8'))", ", (20, convert_to(e.region, 'UTF8'))"),
    ],
}
"""What is written behind what, in each file."""
REPLACED = {
    LIST: [("zip(repeat(covered), ids", "zip(names_of_each, ids")],
    POSTGRES: [("event_id, payload, metadata, tags)", "event_id, payload, metadata, tags, region)")],
}

SCRIPT = """
import asyncio, sys
from msgspec.structs import replace
from twofold.engines.engine import connect
from twofold.engines.memory import MemoryEventLog
from twofold.log.copy import copy_log
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import COLUMNS, are_intact, is_intact
from twofold.ports.event_log import Append, Appended
from twofold.testing.samples import EVENT_TYPES, Noted, append_of, new_command, new_event, topic
from twofold.messages.ids import uuid7

assert "region" in COLUMNS
ALL = EventQuery.all()

async def fill(log):
    plain = append_of(new_event("Note-1", "x"))
    await log.append(plain)
    await asyncio.gather(*(log.append(append_of(new_event(f"Note-{n}", "y"), new_event())) for n in range(5)))
    command = new_command()
    await log.append(append_of(new_event("", "z"), fail_if=topic("z"), after=0, command=command))
    repeat = await log.append(append_of(new_event("", "z"), command=command))
    assert repeat.repeated and [row.region for row in repeat.rows] == ["topic:z"], repeat
    many = [Noted(text="", amount=0, topics=("m",))] * 40
    await log.append(Append(EVENT_TYPES.encode_all(many, [uuid7().bytes for _ in many], "Many-1", "Many", b"{}")))
    again = await log.append(plain)
    assert isinstance(again, Appended) and again.repeated, again

async def rows_of(log):
    rows = await log.read(ALL, limit=1000)
    assert are_intact(rows) and len(rows) == 52, len(rows)
    assert not is_intact(replace(rows[0], region="another"))
    regions = {row.region for row in rows}
    assert regions == {"topic:x", "topic:y", "topic:z", "topic:m", ""}, regions
    assert all(row.tags == (f'["{row.region}"]'.encode() if row.region else b"[]") for row in rows)
    return rows

async def main(*urls):
    memory = MemoryEventLog()
    await fill(memory)
    await rows_of(memory)
    engines = [connect(url) for url in urls]
    for engine in engines:
        await engine.log.open()
    try:
        for engine in engines[:2]:
            await fill(engine.log)
            await rows_of(engine.log)
        for source, target in zip(engines[:2], engines[2:]):
            await copy_log(source.log, target.log)
            assert await rows_of(target.log) == await rows_of(source.log)
    finally:
        for engine in engines:
            await engine.log.close()

asyncio.run(main(*sys.argv[1:]))
"""


def add_column(source: Path) -> None:
    """Add the column to a copy of the source; each place must be there once, or several times if it is replaced."""
    for name in {*EDITS, *REPLACED}:
        text = (source / name).read_text("utf-8")
        for place, addition in EDITS.get(name, ()):
            assert place in text, (name, place)
            text = text.replace(place, place + addition)
        for place, instead in REPLACED.get(name, ()):
            assert place in text, (name, place)
            text = text.replace(place, instead)
        (source / name).write_text(text, "utf-8")


def test_a_column_is_added_in_the_three_files_that_the_page_names(
    tmp_path: Path, new_database: Callable[[int], str]
) -> None:
    shutil.copytree(SOURCE, tmp_path / "src" / "twofold", ignore=shutil.ignore_patterns("__pycache__"))
    add_column(tmp_path / "src" / "twofold")
    sqlite, other = f"sqlite:///{tmp_path}/one.db", f"sqlite:///{tmp_path}/other.db"
    urls = [sqlite, new_database(18), new_database(18), other]
    tried = subprocess.run(
        [sys.executable, "-c", SCRIPT, *urls],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "src")},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert tried.returncode == 0, tried.stderr
    [row] = re.findall(r"^\| add a column to the log \|(.*)\|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert {f"src/twofold/{name}" for name in EDITS} == set(re.findall(r"`(src/[^`]+)`", row))
