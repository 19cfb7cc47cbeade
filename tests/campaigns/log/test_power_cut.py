"""The power fails while processes append; all that was acknowledged is there afterwards."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from tests.campaigns.log.logs import sound
from tests.campaigns.log.power_cut import CUTS, Engine, Running, session
from tests.postgres_servers import PostgresServer, unprivileged_user

from twofold.engines.sqlite import SqliteDatabase, SqliteEventLog
from twofold.ports.event_log import EventLog

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")

SMALL = {"max_wal_size": "64MB", "min_wal_size": "32MB"}
ACKNOWLEDGES_EARLY = {"synchronous_commit": "off", "wal_writer_delay": "10s"}


@contextmanager
def sqlite(disk: Path) -> Iterator[Running]:
    yield Running(partial(sound, f"sqlite:///{disk}/events.db"))


def hasty_sqlite_log(path: Path) -> EventLog:
    return SqliteEventLog(SqliteDatabase(path, synchronous="NORMAL"))


@contextmanager
def hasty_sqlite(disk: Path) -> Iterator[Running]:
    """Planted bug: commits without waiting for the disk."""
    yield Running(partial(hasty_sqlite_log, disk / "events.db"))


@contextmanager
def postgres(disk: Path, settings: dict[str, str] = SMALL) -> Iterator[Running]:
    if user := unprivileged_user():
        shutil.chown(disk, user)
    (disk / "data" / "postmaster.pid").unlink(missing_ok=True)  # in the image, the server of before the cut still runs
    server = PostgresServer(18, settings, data=disk / "data")
    subprocess.run(["sync", "-f", disk], check=True)  # initdb did not
    server.start()
    try:
        url = server.url("postgres") + "&allow_unsafe_settings=true"
        yield Running(partial(sound, url), lambda: server.processes)
    finally:
        server.remove()


@contextmanager
def hasty_postgres(disk: Path) -> Iterator[Running]:
    """Planted bug: commits without waiting for the disk."""
    with postgres(disk, SMALL | ACKNOWLEDGES_EARLY) as running:
        yield running


def run(engine: Engine, folder: Path, sessions: int) -> None:
    seed = random.randrange(1_000_000)
    for number in range(sessions):
        print("seed", seed + number)
        reports = session(engine, folder / str(number), seed + number)
        print([(report.events, report.stored) for report in reports])
        assert reports[-1].stored > 20


@pytest.mark.parametrize("engine", [sqlite, postgres])
def test_a_power_cut_takes_nothing_that_was_acknowledged(engine: Engine, reachable_path: Path) -> None:
    run(engine, reachable_path, 10 // CUTS)


@pytest.mark.soak
@pytest.mark.parametrize("_", range(10))
@pytest.mark.parametrize("engine", [sqlite, postgres])
def test_power_cuts_at_full_length(engine: Engine, reachable_path: Path, _: int) -> None:
    run(engine, reachable_path, 50 // CUTS)


@pytest.mark.parametrize("engine", [hasty_sqlite, hasty_postgres])
def test_a_log_that_does_not_wait_for_the_disk_is_found(engine: Engine, reachable_path: Path) -> None:
    with pytest.raises(AssertionError, match="acknowledged at"):
        session(engine, reachable_path / "0", seed=1)
