"""The disk reports errors when it is told to sync: no append is acknowledged that is not stored, none stored twice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.campaigns.failing_disk import failing_run


def run(folder: Path, rounds: int) -> None:
    seed = random.randrange(1_000_000)
    chance, told = random.Random(seed), 0
    for number in range(rounds):
        first = chance.randint(1, 20)
        last = first + chance.randint(0, 25)
        print(f"seed {seed}, round {number}, calls {first} to {last} fail")
        report, failures = failing_run(folder / str(number), first, last)
        assert report.events == 240
        told += failures
    assert told, "no append ever failed"


def test_an_error_of_the_disk_is_told_and_the_log_goes_on(tmp_path: Path) -> None:
    run(tmp_path, 5)


@pytest.mark.soak
def test_errors_of_the_disk_at_full_length(tmp_path: Path) -> None:
    run(tmp_path, 100)


def test_swallowed_errors_are_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="acknowledged at"):
        failing_run(tmp_path / "0", 20, 60, "swallow")
