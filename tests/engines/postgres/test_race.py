"""Processes race on one PostgreSQL log, are killed, cut off and disturbed; afterwards the history is judged."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psycopg
import pytest
from tests.campaigns.log.logs import Hasty, Unconditional, around, sound
from tests.campaigns.planted import assert_finds
from tests.engines.postgres.race_logs import commit_late, cut_connections, hold_transactions, on_a_sequence

from twofold.ports.event_log import EventLog
from twofold.testing import Race


def disturbed(url: str, folder: Path, **more: float) -> Race:
    disturbers = (partial(hold_transactions, url), partial(cut_connections, url), partial(commit_late, url, folder))
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    return Race(partial(sound, url), folder, seed, disturbers=disturbers, **more)  # type: ignore[arg-type]


def test_a_log_under_kills_cuts_and_long_foreign_transactions_loses_doubles_and_inverts_nothing(
    url: str, tmp_path: Path
) -> None:
    report = disturbed(url, tmp_path, seconds=5.0, kills=6).run()
    print(report)
    assert report.stored > 100
    assert report.refused > 10


@pytest.mark.soak
@pytest.mark.parametrize("_", range(20))
def test_a_log_under_kills_cuts_and_long_foreign_transactions_at_full_length(url: str, tmp_path: Path, _: int) -> None:
    disturbed(url, tmp_path, writers=8, readers=4, seconds=90.0, kills=60).run()


@pytest.mark.parametrize(
    ("planted", "complaint"),
    [
        (on_a_sequence, "a reader (saw|ended)|after position|acknowledged at"),
        (partial(around, Unconditional), "that it never read"),
        (partial(around, Hasty), "acknowledged at"),
    ],
)
async def test_a_planted_bug_is_found(
    url: str, tmp_path: Path, planted: Callable[[str], EventLog], complaint: str
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SEQUENCE places")
    await assert_finds(
        lambda seed: asyncio.to_thread(Race(partial(planted, url), tmp_path, seed, seconds=2.0, kills=0).run), complaint
    )
