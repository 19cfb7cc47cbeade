"""Bytes of the file are flipped while the application is down; no reader ever takes a wrong event for a right one."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
from tests.campaigns.log.damaged_files import flip, judge_damaged, write_log


async def campaign(folder: Path, seed: int, rounds: int, *, verified: bool = True) -> Counter[str]:
    whole = folder / "whole.db"
    answers, _ = await write_log(whole, seed)
    outcomes: Counter[str] = Counter()
    for number in range(rounds):
        chance, damaged = random.Random(f"{seed}-{number}"), folder / "damaged.db"
        for each in folder.glob("damaged.db*"):
            each.unlink()
        shutil.copyfile(whole, damaged)
        where = flip(damaged, chance)
        try:
            outcomes[await judge_damaged(damaged, answers, verified=verified)] += 1
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, round {number}, {where}: {error}") from None
    return outcomes


def test_flipped_bytes_give_the_exact_event_or_a_named_error(tmp_path: Path) -> None:
    seed = random.randrange(1_000_000)
    outcomes = asyncio.run(campaign(tmp_path, seed, rounds=200))
    print(seed, dict(outcomes))
    assert outcomes["named error"] > 20


@pytest.mark.soak
@pytest.mark.parametrize("_", range(10))
def test_flipped_bytes_at_full_length(tmp_path: Path, _: int) -> None:
    print(asyncio.run(campaign(tmp_path, random.randrange(1_000_000), rounds=1000)))


def test_a_reader_that_does_not_verify_checksums_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="is answered with the wrong event"):
        asyncio.run(campaign(tmp_path, seed=1, rounds=200, verified=False))
