"""A process keeps the locks on its database: SQLite alone opens the file and closes it.

POSIX locks belong to the process and the file. One `open` and `close` of the file by anything but SQLite ends the locks
of every connection of the process; the next process that closes the database then takes itself for the last one and
deletes the write-ahead log, and what is committed after that goes into a file that has no name.
See <https://www.sqlite.org/howtocorrupt.html>, 2.2.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.accounts import Balances
from tests.synchronizing import PATIENCE, deposited, engine_at, opened

from twofold import Application
from twofold.cli import log, moving
from twofold.engines.sqlite.file_identity import refuse_torn_copy

ANOTHER_PROCESS = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT count(*) FROM twofold_events").fetchone()[0])
connection.close()
"""
BEGIN = "import sqlite3, sys; sqlite3.connect(sys.argv[1], 0).execute('BEGIN IMMEDIATE')"

opened_files: list[str] | None = None
"""What Python opened, while it is listened to: an audit hook cannot be taken away again."""


def _listen(event: str, arguments: tuple[object, ...]) -> None:
    if opened_files is not None and event == "open":
        opened_files.append(str(arguments[0]))


sys.addaudithook(_listen)


@contextmanager
def files_opened_by_python() -> Iterator[list[str]]:
    global opened_files
    opened_files = []
    try:
        yield opened_files
    finally:
        opened_files = None


def counted_by_another_process(file: Path) -> int:
    command = [sys.executable, "-c", ANOTHER_PROCESS, str(file)]
    return int(subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout)


async def test_a_second_engine_upon_the_file_leaves_the_first_ones_locks_alone(tmp_path: Path) -> None:
    file = tmp_path / "twofold.db"
    async with engine_at(f"sqlite:///{file}") as (_, first):
        await first.append([opened("a")])
        async with engine_at(f"sqlite:///{file}") as (_, second):
            await second.append([deposited("a")])
            assert counted_by_another_process(file) == 2
            await first.append([deposited("a")])
            await second.append([deposited("a")])
        assert counted_by_another_process(file) == 4
        await first.append([deposited("a")])
        assert counted_by_another_process(file) == 5


def test_looking_for_a_torn_copy_leaves_the_locks_alone(tmp_path: Path) -> None:
    file = tmp_path / "twofold.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("CREATE TABLE twofold_events (position INTEGER)")
        writer.execute("BEGIN IMMEDIATE")
        refuse_torn_copy(file, being_made=0.5)
        with pytest.raises(subprocess.CalledProcessError):
            subprocess.run([sys.executable, "-c", BEGIN, str(file)], capture_output=True, timeout=PATIENCE, check=True)


async def test_python_never_opens_the_file_of_a_database_that_exists(tmp_path: Path) -> None:
    file, url = tmp_path / "twofold.db", f"sqlite:///{tmp_path}/twofold.db"
    async with engine_at(url):
        pass
    with files_opened_by_python() as opened_here:
        for _ in range(2):
            app = Application(url)
            app.projections.add(Balances())
            async with app:
                position = (await app.store.append([opened("a"), deposited("a")])).position
                await app.projections.wait(position, PATIENCE)
                await app.projections.status()
        for operate in (log.status(url), log.migrate(url), log.verify(url), moving.copy(url, f"{url}.copy")):
            await operate
    assert not [each for each in opened_here if Path(each).resolve() == file]
