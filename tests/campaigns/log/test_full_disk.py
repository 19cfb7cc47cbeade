"""The disk is full: whole appends are refused by name, nothing is stored by halves, and the log goes on with space."""

from __future__ import annotations

import asyncio
import random
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import pytest
from tests.campaigns.log.logs import Around, Swallowing, around, sound
from tests.campaigns.log.stubborn import append_all
from tests.mounts import mounted
from tests.postgres_servers import PostgresServer, unprivileged_user

from twofold.errors import OutcomeUnknownError, StorageFullError
from twofold.testing.judge import judge, whole_log

DatabaseIn = Callable[[Path], AbstractContextManager[str]]


@pytest.fixture(params=["sqlite", "postgres"])
def database_in(request: pytest.FixtureRequest) -> DatabaseIn:
    """Return a function that makes a database whose files lie in a folder."""
    if request.param == "sqlite":
        return lambda folder: nullcontext(f"sqlite:///{folder}/events.db")
    start: Callable[..., PostgresServer] = request.getfixturevalue("own_server")
    return partial(tablespace, start())


@contextmanager
def tablespace(server: PostgresServer, folder: Path) -> Iterator[str]:
    name = f"in_{uuid.uuid4().hex[:8]}"
    if user := unprivileged_user():
        shutil.chown(folder, user)
    server.execute(f"CREATE TABLESPACE {name} LOCATION '{folder}'")
    try:
        with server.database(copy_of=f"template1 TABLESPACE {name}") as url:
            yield url
    finally:
        server.execute(f"DROP TABLESPACE {name}")


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    folder.mkdir()
    with mounted(folder / "disk", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs") as disk:
        (disk / "data").mkdir()
        yield disk


class Filling:
    """Fills a disk that has some space to spare, and frees that when the log has complained often enough."""

    def __init__(self, spare: Path, chance: random.Random, at_most: int) -> None:
        self._spare = spare
        self._at_most = at_most
        self._complaints = chance.randint(1, 12)
        self._after = chance.randint(1, 12)
        self.told: list[Exception] = []
        spare.write_bytes(bytes(chance.randint(18, 26) << 20))  # more than the write-ahead log of SQLite

    def more(self, number: int) -> bool:
        """Go on until the disk was full, and a little further."""
        if not self._spare.exists():
            self._after -= 1
        return self._after > 0 and number < self._at_most

    def complain(self, error: Exception) -> None:
        self.told.append(error)
        if len(self.told) == self._complaints:
            self._spare.unlink()


def is_honest(error: Exception) -> bool:
    """Return whether an error is what a full disk may cause: at a commit, the system may report it as an I/O error."""
    return isinstance(error, StorageFullError) or (
        isinstance(error, OutcomeUnknownError) and "the commit failed: disk I/O error" in str(error)
    )


def fill_often(
    database_in: DatabaseIn,
    folder: Path,
    rounds: int,
    seed: int,
    client: type[Around] = Around,
    at_most: int = 2_000,
) -> None:
    for number in range(rounds):
        print(f"seed {seed}, round {number}")
        chance = random.Random(f"{seed}-{number}")
        with small_disk(folder / str(number), megabytes=40) as disk, database_in(disk / "data") as url:
            filling = Filling(disk / "spare", chance, at_most)
            text = chance.randbytes(chance.randint(1_000, 20_000)).hex()  # does not compress
            asyncio.run(append_all(around(client, url), disk.parent, filling.more, filling.complain, text))
            report = judge(asyncio.run(whole_log(lambda: sound(url))), disk.parent)
            print(report, Counter(map(repr, filling.told)))
            assert filling.told
            assert [error for error in filling.told if not is_honest(error)] == []
            assert all("free some space" in str(error) for error in filling.told)


def test_a_full_disk_refuses_whole_appends_and_the_log_goes_on(database_in: DatabaseIn, reachable_path: Path) -> None:
    fill_often(database_in, reachable_path, 5, random.randrange(1_000_000))


@pytest.mark.soak
@pytest.mark.parametrize("_", range(5))
def test_full_disks_at_full_length(database_in: DatabaseIn, reachable_path: Path, _: int) -> None:
    fill_often(database_in, reachable_path, 20, random.randrange(1_000_000))


def test_a_swallowed_error_is_found(database_in: DatabaseIn, reachable_path: Path) -> None:
    with pytest.raises(AssertionError, match="acknowledged at"):
        fill_often(database_in, reachable_path, 1, seed=1, client=Swallowing, at_most=250)
