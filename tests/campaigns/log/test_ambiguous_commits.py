"""Connections are reset after COMMIT was sent, and tasks cancelled; every append is told for what it was in the end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.campaigns.log.logs import FreshIds, GivingUp, Interrupted, Patient, sound
from tests.campaigns.planted import assert_finds
from tests.engines.postgres.weak_line import weak_line
from tests.postgres_servers import PostgresServer

from twofold.ports.event_log import EventLog
from twofold.testing.judge import Report, judge, whole_log
from twofold.testing.race import Race, write

WRITERS = 6


@pytest.fixture
def url(new_database: Callable[[int], str]) -> str:
    return new_database(18)


def patient(url: str) -> EventLog:
    return Patient(Interrupted(sound(url)))


def naive(bug: type[Patient], url: str) -> EventLog:
    """Return a log that hands every doubt on to a client who does the wrong thing."""
    return bug(Interrupted(sound(url)))


async def lose_often(
    server: PostgresServer, url: str, folder: Path, losses: int, seed: int, client: Callable[[str], EventLog] = patient
) -> Report:
    """Let writers write until so many answers to appends were lost, and repeat until they know."""
    print(f"seed {seed}")
    async with weak_line(server.folder) as line:
        line.chance, line.odds = random.Random(seed), 0.3
        random.seed(seed)
        over_line = f"postgresql://postgres@127.0.0.1:{line.port}{urlsplit(url).path}"
        plan = Race(partial(client, over_line), folder, seed, writers=WRITERS)
        writers = [asyncio.create_task(write(plan, number, end=float("inf"))) for number in range(WRITERS)]
        enough = asyncio.create_task(line.lost(losses))
        done, _ = await asyncio.wait([enough, *writers], timeout=600, return_when=asyncio.FIRST_COMPLETED)
        line.odds = 0.0
        for task in (enough, *writers):
            task.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
        assert enough in done, f"a writer has failed: {done}"
    report = judge(await whole_log(partial(sound, url)), folder)
    print(report)
    return report


async def test_no_lost_answer_loses_or_doubles_an_append(
    postgres_server: Callable[[int], PostgresServer], url: str, tmp_path: Path
) -> None:
    report = await lose_often(postgres_server(18), url, tmp_path, 300, random.randrange(1_000_000))
    assert report.found_again > 100


@pytest.mark.soak
@pytest.mark.parametrize("_", range(10))
async def test_lost_answers_at_full_length(
    postgres_server: Callable[[int], PostgresServer], url: str, tmp_path: Path, _: int
) -> None:
    await lose_often(postgres_server(18), url, tmp_path, 2_000, random.randrange(1_000_000))


@pytest.mark.parametrize(
    ("bug", "complaint"), [(FreshIds, "stored twice, under several ids"), (GivingUp, "refused, and yet stored")]
)
async def test_a_naive_client_is_found(
    postgres_server: Callable[[int], PostgresServer], url: str, tmp_path: Path, bug: type[Patient], complaint: str
) -> None:
    client = partial(naive, bug)
    await assert_finds(lambda seed: lose_often(postgres_server(18), url, tmp_path, 20, seed, client=client), complaint)
