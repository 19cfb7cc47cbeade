"""Processes are killed while they append, again and again; afterwards the history is judged."""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from pathlib import Path

import pytest
from tests.campaigns.log.logs import InPieces, around, sound
from tests.campaigns.log.writing import writing
from tests.campaigns.planted import assert_finds

from twofold.testing.judge import Report, judge, whole_log
from twofold.testing.race import OpenLog, Race

WRITERS = 2


def kill_often(open_log: OpenLog, folder: Path, kills: int, seed: int) -> Report:
    """Start writers and kill them at a random moment after their first append, until there were so many kills."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    plan = Race(open_log, folder, seed, writers=WRITERS, seconds=60.0)
    for _ in range(kills // WRITERS):
        with writing(plan) as processes:
            for process in processes:
                time.sleep(chance.uniform(0.0, 0.03))  # the moment of the kill
                assert process.is_alive(), "a writer has failed; its error stands above"
                process.kill()
    report = judge(asyncio.run(whole_log(open_log)), folder)
    print(report)
    return report


def test_no_kill_loses_or_halves_an_append(url: str, tmp_path: Path) -> None:
    report = kill_often(partial(sound, url), tmp_path, 100, random.randrange(1_000_000))
    assert report.unanswered > 10


@pytest.mark.soak
@pytest.mark.parametrize("_", range(10))
def test_kills_at_full_length(url: str, tmp_path: Path, _: int) -> None:
    kill_often(partial(sound, url), tmp_path, 300, random.randrange(1_000_000))


async def test_a_commit_per_event_is_found(url: str, tmp_path: Path) -> None:
    await assert_finds(
        lambda seed: asyncio.to_thread(kill_often, partial(around, InPieces, url), tmp_path, 20, seed),
        r"\d of \d events of one append are stored|acknowledged at",
    )
