"""The disk reports errors when it is told to sync: no append is acknowledged that is not stored, none stored twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.campaigns.log.failing_disk import failing_commits, failing_run
from tests.campaigns.log.logs import Around, Patient, Swallowing, sound
from tests.campaigns.log.stubborn import append_all
from tests.postgres_servers import PostgresServer

from twofold.engines.postgres import PostgresDatabase, PostgresEventLog
from twofold.options import PostgresOptions
from twofold.testing.judge import judge, whole_log


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
@pytest.mark.parametrize("_", range(5))
def test_errors_of_the_disk_at_full_length(tmp_path: Path, _: int) -> None:
    run(tmp_path, 20)


def test_swallowed_errors_are_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="acknowledged at"):
        failing_run(tmp_path / "0", 8, 60, "swallow")


def run_on_postgres(
    server: PostgresServer, folder: Path, rounds: int, seed: int, client: type[Around] = Around
) -> None:
    """Let a sync of the write-ahead log fail after a few commits, over which the server crashes, again and again."""
    chance = random.Random(seed)
    for number in range(rounds):
        failing = chance.randint(4, 7)
        print(f"seed {seed}, round {number}, sync {failing} of each process fails")
        place = folder / str(number)
        place.mkdir()
        with server.database() as url, failing_commits(server, place / "calls", failing):
            options = PostgresOptions(append_timeout=30.0 if client is Around else 0.02)
            log = client(PostgresEventLog(PostgresDatabase(url, options=options)))
            asyncio.run(append_all(log, place, lambda n: n < 8, told=lambda error: None))
            # A client that swallows errors is done before the server has noticed the last of them.
            report = judge(asyncio.run(whole_log(lambda: Patient(sound(url)))), place)
        print(report)
        assert report.events == 64
        assert "EIO" in (place / "calls").read_text(), "no sync ever failed"


def test_an_error_of_the_disk_under_the_server_is_survived(
    own_server: Callable[..., PostgresServer], tmp_path: Path
) -> None:
    run_on_postgres(own_server(), tmp_path, 3, random.randrange(1_000_000))


@pytest.mark.soak
@pytest.mark.parametrize("_", range(5))
def test_errors_of_the_disk_under_the_server_at_full_length(
    own_server: Callable[..., PostgresServer], tmp_path: Path, _: int
) -> None:
    run_on_postgres(own_server(), tmp_path, 20, random.randrange(1_000_000))


def test_swallowed_errors_of_the_server_are_found(own_server: Callable[..., PostgresServer], tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="acknowledged at"):
        run_on_postgres(own_server(), tmp_path, 1, seed=1, client=Swallowing)
