"""The power fails while processes append; all that was acknowledged is there afterwards."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.campaigns.power_cut import CUTS, session

from twofold.event_log import EventLog
from twofold.sqlite import SqliteDatabase, SqliteEventLog

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")


def sound(path: Path) -> EventLog:
    return SqliteEventLog(SqliteDatabase(path))


def not_synchronous(path: Path) -> EventLog:
    """Planted bug: commits without waiting for the disk."""
    return SqliteEventLog(SqliteDatabase(path, synchronous="NORMAL"))


def run(folder: Path, sessions: int, seed: int) -> None:
    for number in range(sessions):
        print("seed", seed + number)
        reports = session(sound, folder / str(number), seed + number)
        print([(report.events, report.stored) for report in reports])
        assert reports[-1].stored > 100


def test_a_power_cut_takes_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    run(tmp_path, 20 // CUTS, random.randrange(1_000_000))


@pytest.mark.soak
def test_power_cuts_at_full_length(tmp_path: Path) -> None:
    run(tmp_path, 500 // CUTS, random.randrange(1_000_000))


def test_a_log_that_does_not_wait_for_the_disk_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="acknowledged at"):
        session(not_synchronous, tmp_path / "0", seed=1)
