"""A process that appends while its disk refuses to sync, and what it may have told its callers.

Run under `strace`, which lets some calls of fsync and fdatasync fail: python -m tests.campaigns.failing_disk FOLDER BUG
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from twofold.errors import OutcomeUnknownError, StorageError
from twofold.event_log import Append, Appended, Rejected
from twofold.sqlite import SqliteDatabase, SqliteEventLog
from twofold.testing.judge import Report, judge, whole_log
from twofold.testing.race import Ledger
from twofold.testing.samples import append_of, new_event

APPENDS, TRIES, AT_ONCE = 60, 50, 4


class Swallowing(SqliteEventLog):
    """Planted bug: takes an error of the disk for a success."""

    async def append(self, append: Append) -> Appended | Rejected:
        head = await self.head()
        try:
            return await super().append(append)
        except (StorageError, OutcomeUnknownError):
            return Appended(head + 1, head + len(append.events))


def failing_run(folder: Path, first: int, last: int, bug: str = "") -> tuple[Report, int]:
    """Append while the calls from `first` to `last` fail; judge, and return how many appends were told of it."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    folder.mkdir()
    failing = f"inject=fsync,fdatasync:error=EIO:when={first}..{last}"
    strace = ["strace", "-f", "-qq", "-o", str(folder / "calls"), "-e", "trace=fsync,fdatasync", "-e", failing]
    victim = [sys.executable, "-m", "tests.campaigns.failing_disk", str(folder), bug]
    done = subprocess.run([*strace, *victim], capture_output=True, text=True, timeout=120)
    if "strace:" in done.stderr:
        pytest.skip(f"strace does not work here: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    report = judge(asyncio.run(whole_log(lambda: SqliteEventLog(SqliteDatabase(folder / "events.db")))), folder)
    return report, int(done.stdout)


async def append_all(folder: Path, log: SqliteEventLog) -> int:
    """Append in every stream one after the other, each append until it is stored; return how often that failed."""
    await _opened(log)
    ledger, failures = Ledger(folder / f"writer-{os.getpid()}"), 0

    async def one_stream(name: str) -> None:
        nonlocal failures
        for version in range(0, APPENDS, 2):
            append = append_of(new_event(name, "x"), new_event(name, "x"), expected={name: version})
            failures += await _until_stored(log, ledger, append)

    await asyncio.gather(*(one_stream(f"Note-{n}") for n in range(AT_ONCE)))
    await log.close()
    return failures


async def _opened(log: SqliteEventLog) -> None:
    for _ in range(TRIES):
        try:
            return await log.open()
        except StorageError:
            continue
    raise AssertionError("the log never opens")


async def _until_stored(log: SqliteEventLog, ledger: Ledger, append: Append) -> int:
    ids = [str(UUID(bytes=event.event_id)) for event in append.events]
    ledger.write(told="about to", ids=ids)
    for failures in range(TRIES):
        try:
            outcome = await log.append(append)
        except (StorageError, OutcomeUnknownError):
            continue
        if isinstance(outcome, Rejected):  # never, unless an earlier one was acknowledged and is not there
            ledger.write(told="refused", ids=ids)
            return failures
        ledger.write(told="stored", ids=ids, first=outcome.first, last=outcome.last, expected=dict(append.expected))
        return failures
    raise AssertionError("an append is never stored")


if __name__ == "__main__":
    where, planted = Path(sys.argv[1]), sys.argv[2:]
    kind = Swallowing if planted == ["swallow"] else SqliteEventLog
    print(asyncio.run(append_all(where, kind(SqliteDatabase(where / "events.db")))))
