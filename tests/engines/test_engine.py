"""From a URL to an engine: what names a file, what is refused by name, and engines of other packages."""

from __future__ import annotations

import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest
from tests.accounts import Balances
from tests.synchronizing import PATIENCE, deposited, opened, write

from twofold import Application, open_event_store
from twofold.engines.engine import Engine, connect
from twofold.engines.memory import MemoryDatabase, MemoryEventLog, MemoryReadDatabase
from twofold.options import Options, SqliteOptions

NAMES = ["orders.db", "a#b.db", "100%.db", "what?.db", "two words.db", "a#b?c=d&e%20f.db", "é.db", "file:x.db"]
OTHER_ENGINE = """
from twofold.engines.engine import Engine
from twofold.engines.memory import MemoryDatabase, MemoryEventLog, MemoryReadDatabase

def connect(url, *, migrate, options):
    print(url, migrate, options.sqlite.readers)
    database = MemoryDatabase()
    return Engine(MemoryEventLog(database), MemoryReadDatabase(database))
"""
USE_IT = """
import asyncio
from twofold import Application
from twofold.options import Options, SqliteOptions

async def main():
    async with Application("elsewhere://there?really=1", options=Options(sqlite=SqliteOptions(readers=7))) as app:
        print(await app.store.head())

asyncio.run(main())
"""


@pytest.mark.parametrize("name", NAMES)
async def test_a_file_of_any_name_is_the_one_that_its_url_names(tmp_path: Path, name: str) -> None:
    async with open_event_store(f"sqlite:///{urllib.parse.quote(str(tmp_path / name))}") as store:
        assert await store.head() == 0
        assert {path.name for path in tmp_path.iterdir()} == {name, f"{name}-wal", f"{name}-shm"}


async def test_a_hash_needs_no_quotation(tmp_path: Path) -> None:
    async with open_event_store(f"sqlite:///{tmp_path}/a#b.db"):
        assert (tmp_path / "a#b.db").exists()
        assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("sqlite:///orders.db?mode=ro", "unknown option 'mode'"),
        ("sqlite:///orders.db?", r"write a \? in a file's name as %3F"),
        ("sqlite:///what?.db", "unknown option '.db'"),
        ("sqlite://orders.db", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:///a%00b", "names no file"),
        ("sqlite+aiosqlite:///orders.db", "Twofold brings its own"),
        ("memory://orders", "has a name or an option"),
        ("memory://?a=b", "has a name or an option"),
        ("cockroach://host/db", "registers 'cockroach' as an entry point of twofold.engines"),
        ("", "no engine for ''"),
    ],
)
def test_what_a_url_cannot_say_is_refused_by_name(url: str, text: str) -> None:
    for use in (connect, open_event_store, Application):
        with pytest.raises(ValueError, match=text):
            use(url)


async def test_an_application_takes_an_engine_in_place_of_a_url() -> None:
    database = MemoryDatabase()
    app = Application(engine=Engine(MemoryEventLog(database), MemoryReadDatabase(database)))
    balances = app.projections.add(Balances())
    async with app:
        position = await write(app.store, opened("a"), deposited("a"))
        await app.projections.wait(position, PATIENCE)
        assert await balances.get("a") is not None


@pytest.mark.parametrize("arguments", [{}, {"url": "memory://", "engine": connect("memory://")}])
def test_neither_a_url_nor_an_engine_or_both_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="give a URL or an engine"):
        Application(**arguments)  # type: ignore[arg-type]


async def test_options_reach_the_engine(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/a.db", options=Options(sqlite=SqliteOptions(readers=7)))
    assert engine.log._database.options.readers == 7  # type: ignore[attr-defined]


def test_the_engine_of_another_package_is_found_by_its_entry_point(tmp_path: Path) -> None:
    (tmp_path / "other_engine.py").write_text(OTHER_ENGINE)
    metadata = tmp_path / "other_engine-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other-engine\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[twofold.engines]\nelsewhere = other_engine:connect\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{USE_IT}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["elsewhere://there?really=1 True 7", "0"]


def test_the_parts_of_an_application_are_documented_as_its_attributes() -> None:
    for name, part in Application.__annotations__.items():
        assert f"{name}: the " in (Application.__doc__ or ""), part
    assert set(Application.__annotations__) == {
        "store",
        "commands",
        "queries",
        "projections",
        "processes",
        "privacy",
        "status",
    }
