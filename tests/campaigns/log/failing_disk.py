"""A process that appends while its disk refuses to sync, and what it may have told its callers.

Run under `strace`, which lets some calls of fsync and fdatasync fail:

    python -m tests.campaigns.log.failing_disk FOLDER BUG
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.campaigns.log.logs import Swallowing, around, sound
from tests.campaigns.log.stubborn import append_all
from tests.postgres_servers import PostgresServer

from twofold.testing.judge import Report, judge, whole_log

APPENDS = 30


def failing_run(folder: Path, first: int, last: int, bug: str = "") -> tuple[Report, int]:
    """Append while the calls from `first` to `last` fail; judge, and return how many appends were told of it."""
    folder.mkdir()
    victim = [sys.executable, "-m", "tests.campaigns.log.failing_disk", str(folder), bug]
    strace = _failing(f"{first}..{last}", folder / "calls", "fsync,fdatasync")
    done = subprocess.run([*strace, *victim], capture_output=True, text=True, timeout=120)
    if "strace:" in done.stderr:
        pytest.skip(f"strace does not work here: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    report = judge(asyncio.run(whole_log(lambda: sound(_url(folder)))), folder)
    return report, int(done.stdout)


@contextmanager
def failing_commits(server: PostgresServer, calls: Path, number: int) -> Iterator[None]:
    """Let this sync of the write-ahead log fail in every process that the server starts from now on."""
    first = server.processes[0]
    with subprocess.Popen([*_failing(str(number), calls, "fdatasync"), "-p", str(first)]) as strace:
        try:
            while "TracerPid:\t0\n" in Path(f"/proc/{first}/status").read_text():
                if strace.poll() is not None:
                    pytest.skip("strace does not work here")
                time.sleep(0.005)
            yield
        finally:
            strace.terminate()


def _failing(when: str, calls: Path, names: str) -> list[str]:
    """Return the beginning of a command line that lets some calls of each process fail."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    failing = f"inject={names}:error=EIO:when={when}"
    return ["strace", "-f", "-qq", "-o", str(calls), "-e", f"trace={names}", "-e", failing]


def _url(folder: Path) -> str:
    return f"sqlite:///{folder}/events.db"


if __name__ == "__main__":
    where, planted = Path(sys.argv[1]), sys.argv[2:]
    log = around(Swallowing, _url(where)) if planted == ["swallow"] else sound(_url(where))
    failures: list[Exception] = []
    asyncio.run(append_all(log, where, lambda n: n < APPENDS, failures.append))
    print(len(failures))
