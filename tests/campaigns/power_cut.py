"""Cuts the power of a file system: what it has handed to its disk by that moment is kept, all else is gone.

The log lives on an ext4 of its own, whose disk is a file. While the writers are stopped, that file is copied: it lacks
all that only the page cache of the file system knows, which is what a power cut takes. The kernel's own write-back is
kept from interfering by the options of the mount and by being quicker than it. Not simulated is a disk that itself
forgets or reorders what it was told to keep.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from pathlib import Path

from tests.mounts import ext4, image_of, mounted

from twofold.event_log import EventLog
from twofold.testing.judge import Report, judge, whole_log
from twofold.testing.race import Race, run_writer

WRITERS, CUTS = 2, 5
OpenAt = Callable[[Path], EventLog]


class OpenIn:
    """Open the log in a folder; can be sent to another process."""

    def __init__(self, open_at: OpenAt, folder: Path) -> None:
        self._open_at = open_at
        self._folder = folder

    def __call__(self) -> EventLog:
        return self._open_at(self._folder / "events.db")


def session(open_at: OpenAt, folder: Path, seed: int) -> list[Report]:
    """Let writers write on a new disk, cut its power several times at random moments, judge what each cut left."""
    chance = random.Random(seed)
    folder.mkdir()
    disk, ledgers = folder / "disk", folder / "ledgers"
    ledgers.mkdir()
    reports = []
    with ext4(disk, megabytes=96, options="loop,commit=600"):
        plan = Race(OpenIn(open_at, disk), ledgers, seed, writers=WRITERS, seconds=30.0)
        with _writing(plan) as processes:
            _until_written(ledgers)
            for number in range(CUTS):
                time.sleep(chance.uniform(0.0, 0.2))  # the moment of the cut
                with _stopped(processes):
                    cut = _cut(folder / f"cut-{number}", disk, ledgers)
                reports.append(_judge(open_at, cut))
    return reports


@contextmanager
def _writing(plan: Race) -> Iterator[list[SpawnProcess]]:
    end = time.time() + plan.seconds
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=run_writer, args=(plan, number, end)) for number in range(plan.writers)]
    for process in processes:
        process.start()
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.join()


def _until_written(ledgers: Path) -> None:
    deadline = time.monotonic() + 30
    while not any(path.stat().st_size for path in ledgers.iterdir()):
        assert time.monotonic() < deadline, "no writer has begun to write"
        time.sleep(0.01)


@contextmanager
def _stopped(processes: list[SpawnProcess]) -> Iterator[None]:
    """Stop processes with all their threads; one that is within a call to the kernel stops when it returns."""
    for process in processes:
        assert process.is_alive(), "a writer has failed; its error stands above"
        os.kill(process.pid or 0, signal.SIGSTOP)
    deadline = time.monotonic() + 10
    while not all(_is_stopped(process.pid) for process in processes):
        assert time.monotonic() < deadline, "a writer does not stop"
        time.sleep(0.001)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process.pid or 0, signal.SIGCONT)


def _is_stopped(pid: int | None) -> bool:
    states = [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").iterdir()]
    return set(states) == {"T"}


def _cut(folder: Path, disk: Path, ledgers: Path) -> Path:
    folder.mkdir()
    shutil.copytree(ledgers, folder / "ledgers")
    subprocess.run(["cp", "--sparse=always", image_of(disk), image_of(folder / "disk")], check=True)
    return folder


def _judge(open_at: OpenAt, cut: Path) -> Report:
    with mounted(cut / "disk", "-o", "loop", str(image_of(cut / "disk"))) as disk:
        report = judge(asyncio.run(whole_log(OpenIn(open_at, disk))), cut / "ledgers")
    image_of(cut / "disk").unlink()
    return report
