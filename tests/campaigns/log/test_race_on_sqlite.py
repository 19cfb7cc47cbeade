"""Processes race on one SQLite file, are killed and disturbed; afterwards the history is judged."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.campaigns.log.logs import Around, Hasty, InPieces, Unconditional, around, sound
from tests.campaigns.log.sqlite_locks import hold_locks
from tests.campaigns.planted import assert_finds

from twofold.testing import Race


def disturbed(folder: Path, **more: Any) -> Race:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    file = folder / "race.db"
    return Race(partial(sound, f"sqlite:///{file}"), folder, seed, disturbers=(partial(hold_locks, file),), **more)


def test_a_log_under_kills_and_foreign_locks_loses_doubles_and_inverts_nothing(tmp_path: Path) -> None:
    report = disturbed(tmp_path, seconds=5.0, kills=6).run()
    print(report)
    assert report.stored > 100
    assert report.refused > 10


@pytest.mark.soak
@pytest.mark.parametrize("_", range(20))
def test_a_log_under_kills_and_foreign_locks_at_full_length(tmp_path: Path, _: int) -> None:
    disturbed(tmp_path, writers=6, readers=3, seconds=60.0, kills=40).run()


@pytest.mark.parametrize(
    ("planted", "complaint"),
    [
        (Unconditional, "that it never read"),
        (InPieces, "events of one append are stored|acknowledged at"),
        (Hasty, "acknowledged at"),
    ],
)
async def test_a_planted_bug_is_found(tmp_path: Path, planted: type[Around], complaint: str) -> None:
    open_log = partial(around, planted, f"sqlite:///{tmp_path}/race.db")
    await assert_finds(
        lambda seed: asyncio.to_thread(Race(open_log, tmp_path, seed, seconds=2.0, kills=2).run), complaint
    )
