"""What is said of a commit that failed: "nothing was stored" only where that is certain, on every path alike."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from twofold.engines.sqlite.errors import commit_failed
from twofold.errors import OutcomeUnknownError, StorageError

PATHS = ("append", "transaction", "read model", "own SQL")
COMMIT_ON_EACH_PATH = """
import asyncio, sys
from pathlib import Path
from twofold.engines.engine import connect
from twofold.log.event_store import EventStore
from twofold.testing.samples import Noted, append_of, new_event

async def commit(engine, how):
    store = EventStore(engine.log)
    if how == "append":
        await engine.log.append(append_of(new_event("Note-1")))
    elif how == "transaction":
        async with store.transaction() as tx:
            tx.append([Noted(text="a")])
    else:
        async with engine.read_database.transaction("driver" if how == "read model" else "sqlalchemy") as tx:
            await tx.run("CREATE TABLE own (name TEXT)")

async def main():
    engine = connect("sqlite:///" + sys.argv[1])
    await engine.log.open()
    try:
        if sys.argv[2]:
            await commit(engine, sys.argv[2])
    except Exception as error:
        print(type(error).__name__)
    await engine.log.close()

asyncio.run(main())
"""


def run(file: Path, how: str, *tracing: str) -> str:
    """Commit in a process of its own, and return the name of the error that it raised."""
    command = [*tracing, sys.executable, "-c", COMMIT_ON_EACH_PATH, str(file), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if "strace:" in done.stderr:
        pytest.skip(f"strace does not work here: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("how", PATHS)
async def test_a_sync_that_fails_at_the_commit_leaves_the_outcome_open(tmp_path: Path, how: str) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    file = tmp_path / "events.db"
    assert await asyncio.to_thread(run, file, "") == "", (
        "opened and closed, so that nothing is left to sync but the commit"
    )
    failing = ("strace", "-f", "-qq", "-o", f"{tmp_path}/calls", "-e", "inject=fsync,fdatasync:error=EIO")
    assert await asyncio.to_thread(run, file, how, *failing) == "OutcomeUnknownError"
    assert "EIO" in (tmp_path / "calls").read_text()


def failure(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("it failed")
    error.sqlite_errorcode = code
    return error


CERTAIN = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_CONSTRAINT,
}  # fmt: skip
CODES = {
    value: name
    for name, value in vars(sqlite3).items()
    if name.startswith("SQLITE_") and isinstance(value, int) and 1 <= value <= 26 and "_DBCONFIG_" not in name
}


@pytest.mark.parametrize("code", sorted(CODES))
def test_nothing_was_stored_is_said_only_of_codes_that_sqlite_gives_before_it_writes(code: int) -> None:
    told = commit_failed(failure(code), Path("events.db"))
    assert isinstance(told, StorageError if code in CERTAIN else OutcomeUnknownError)


@pytest.mark.parametrize("error", [MemoryError(), UnicodeDecodeError("utf-8", b"\\xff", 0, 1, "no")])
def test_what_the_driver_raises_without_a_code_leaves_the_outcome_open(error: Exception) -> None:
    assert isinstance(commit_failed(error, Path("events.db")), OutcomeUnknownError)
