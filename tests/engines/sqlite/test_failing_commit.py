"""A disk that refuses to sync at the COMMIT of a transaction leaves the outcome open, and that is what is said."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def no_sync(process: subprocess.Popen[str]) -> Iterator[None]:
    """Let every fsync of a running process fail."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    fail = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"]
    with subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", *fail, "-p", str(process.pid)]) as strace:
        try:
            while any("TracerPid:\t0\n" in (task / "status").read_text() for task in tasks(process)):
                if strace.poll() is not None:
                    pytest.skip("strace does not work here")
                time.sleep(0.005)
            yield
        finally:
            strace.terminate()


def tasks(process: subprocess.Popen[str]) -> list[Path]:
    return list(Path(f"/proc/{process.pid}/task").iterdir())


def test_a_commit_whose_sync_fails_is_of_unknown_outcome_and_its_repeat_takes_effect_once(tmp_path: Path) -> None:
    victim = [sys.executable, "-m", "tests.engines.sqlite.failing_commit", str(tmp_path / "events.db")]
    with subprocess.Popen(victim, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout

        def once_more() -> str:
            assert process.stdin
            assert process.stdout
            process.stdin.write("\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        assert process.stdout.readline() == "ready\n"
        with no_sync(process):
            assert once_more() == "OutcomeUnknownError"
        assert [once_more() for _ in range(2)] == ["stored", "stored"]
        process.stdin.close()
        assert process.stdout.readline() == "1 1\n"
