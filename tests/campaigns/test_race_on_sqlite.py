"""Processes race on one SQLite file, are killed and disturbed; afterwards the history is judged."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest
from tests.campaigns.sqlite_logs import Hasty, InPieces, Unconditional, broken, hold_locks, sound

from twofold.sqlite import SqliteEventLog
from twofold.testing import Race


def test_a_log_under_kills_and_foreign_locks_loses_doubles_and_inverts_nothing(tmp_path: Path) -> None:
    file = tmp_path / "race.db"
    seed = random.randrange(1_000_000)
    report = Race(
        partial(sound, file), tmp_path, seed, seconds=6.0, kills=6, disturbers=(partial(hold_locks, file),)
    ).run()
    print(seed, report)
    assert report.stored > 100
    assert report.refused > 10


@pytest.mark.soak
@pytest.mark.parametrize("_", range(20))
def test_a_log_under_kills_and_foreign_locks_at_full_length(tmp_path: Path, _: int) -> None:
    file = tmp_path / "race.db"
    seed = random.randrange(1_000_000)
    Race(
        partial(sound, file), tmp_path, seed, 6, 3, seconds=60.0, kills=40, disturbers=(partial(hold_locks, file),)
    ).run()


@pytest.mark.parametrize(
    ("planted", "complaint"),
    [
        (Unconditional, "that it never read"),
        (InPieces, "events of one append are stored|acknowledged at"),
        (Hasty, "acknowledged at"),
    ],
)
def test_a_planted_bug_is_found(tmp_path: Path, planted: type[SqliteEventLog], complaint: str) -> None:
    file = tmp_path / "race.db"
    with pytest.raises(AssertionError, match=complaint):
        Race(partial(broken, planted, file), tmp_path, seed=1, seconds=4.0, kills=3).run()
