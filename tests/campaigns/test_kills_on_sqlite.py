"""Processes are killed while they append, again and again; afterwards the history is judged."""

from __future__ import annotations

import multiprocessing
import random
import time
from asyncio import run
from functools import partial
from pathlib import Path

import pytest
from tests.campaigns.sqlite_logs import InPieces, broken, sound

from twofold.testing.judge import Report, judge, whole_log
from twofold.testing.race import OpenLog, Race, run_writer

WRITERS = 2


def kill_often(open_log: OpenLog, folder: Path, kills: int, seed: int) -> Report:
    """Start writers and kill them at a random moment after their first append, until there were so many kills."""
    chance = random.Random(seed)
    context = multiprocessing.get_context("forkserver")  # a process costs milliseconds, its imports are done
    context.set_forkserver_preload(["twofold.testing.race", "tests.campaigns.sqlite_logs"])
    plan = Race(open_log, folder, seed)
    for _ in range(kills // WRITERS):
        before = _size(folder)
        end = time.time() + 60
        processes = [context.Process(target=run_writer, args=(plan, number, end)) for number in range(WRITERS)]
        for process in processes:
            process.start()
        _until_written(folder, before)
        for process in processes:
            time.sleep(chance.uniform(0.0, 0.04))  # the moment of the kill
            assert process.is_alive(), "a writer has failed; its error stands above"
            process.kill()
            process.join()
    return judge(run(whole_log(open_log)), folder)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("writer-*"))


def _until_written(folder: Path, before: int) -> None:
    deadline = time.monotonic() + 30
    while _size(folder) <= before:
        assert time.monotonic() < deadline, "no writer writes"
        time.sleep(0.001)


def test_no_kill_loses_or_halves_an_append(tmp_path: Path) -> None:
    seed = random.randrange(1_000_000)
    print("seed", seed)
    report = kill_often(partial(sound, tmp_path / "events.db"), tmp_path, 100, seed)
    print(report)
    assert report.unanswered > 10


@pytest.mark.soak
@pytest.mark.parametrize("_", range(10))
def test_kills_at_full_length(tmp_path: Path, _: int) -> None:
    seed = random.randrange(1_000_000)
    print("seed", seed)
    kill_often(partial(sound, tmp_path / "events.db"), tmp_path, 300, seed)


def test_a_commit_per_event_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"\d of \d events of one append are stored|acknowledged at"):
        kill_often(partial(broken, InPieces, tmp_path / "events.db"), tmp_path, 40, seed=1)
