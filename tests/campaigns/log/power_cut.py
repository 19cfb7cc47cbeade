"""Cuts the power of a file system: what it has handed to its disk by that moment is kept, all else is gone.

The log lives on an ext4 of its own, whose disk is a file. While the writers are stopped, that file is copied: it lacks
all that only the page cache of the file system knows, which is what a power cut takes. The kernel's own write-back is
kept from interfering by the options of the mount and by being quicker than it. Not simulated is a disk that itself
forgets or reorders what it was told to keep.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.campaigns.log.writing import until, writing, written
from tests.mounts import ext4, image_of, mounted

from twofold.testing.judge import Report, judge, whole_log
from twofold.testing.race import OpenLog, Race

WRITERS, CUTS = 2, 5


class Running(NamedTuple):
    """A log on a disk, and who writes to the disk for it, beside those who append."""

    open_log: OpenLog
    processes: Callable[[], Sequence[int]] = list


Engine = Callable[[Path], AbstractContextManager[Running]]
"""Make a log on a disk, or start again what a power cut has left there."""


def session(engine: Engine, folder: Path, seed: int) -> list[Report]:
    """Let writers write on a new disk, cut its power several times at random moments, judge what each cut left."""
    chance = random.Random(seed)
    folder.mkdir()
    disk, ledgers = folder / "disk", folder / "ledgers"
    ledgers.mkdir()
    reports = []
    with ext4(disk, megabytes=256, options="loop,commit=600"), engine(disk) as running:
        plan = Race(running.open_log, ledgers, seed, writers=WRITERS, seconds=60.0)
        with writing(plan) as processes:
            for number in range(CUTS):
                before = sum(written(plan))
                until(lambda: sum(written(plan)) > before, processes)  # noqa: B023
                time.sleep(chance.uniform(0.0, 0.1))  # the moment of the cut
                with _stopped(lambda: [each.pid or 0 for each in processes]), _stopped(running.processes):
                    reports.append(_judge(engine, _cut(folder / f"cut-{number}", disk, ledgers)))
    return reports


@contextmanager
def _stopped(processes: Callable[[], Sequence[int]]) -> Iterator[None]:
    """Stop processes with all their threads; one that is within a call to the kernel stops when it returns."""
    stopped: set[int] = set()
    while new := set(processes()) - stopped:  # the first of them may just have started another
        for process in new:
            _signal(process, signal.SIGSTOP)
        stopped |= new
    deadline = time.monotonic() + 10
    while not all(map(_is_stopped, stopped)):
        assert time.monotonic() < deadline, "a process does not stop"
        time.sleep(0.001)
    try:
        yield
    finally:
        for process in stopped:
            _signal(process, signal.SIGCONT)


def _signal(process: int, number: int) -> None:
    with suppress(ProcessLookupError):  # it has come to its end
        os.kill(process, number)


def _is_stopped(process: int) -> bool:
    try:
        threads = list(Path(f"/proc/{process}/task").iterdir())
        states = {(thread / "stat").read_text().rpartition(")")[2].split()[0] for thread in threads}
    except (FileNotFoundError, ProcessLookupError):
        return True
    return states <= {"T", "Z"}


def _cut(folder: Path, disk: Path, ledgers: Path) -> Path:
    folder.mkdir()
    shutil.copytree(ledgers, folder / "ledgers")
    subprocess.run(["cp", "--sparse=always", image_of(disk), image_of(folder / "disk")], check=True)
    return folder


def _judge(engine: Engine, cut: Path) -> Report:
    with mounted(cut / "disk", "-o", "loop", str(image_of(cut / "disk"))) as disk, engine(disk) as running:
        report = judge(asyncio.run(whole_log(running.open_log)), cut / "ledgers")
    image_of(cut / "disk").unlink()
    return report
