"""A process that archives, or tombstones what is archived, is killed at each of its steps: no payload is lost."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import cast

from tests.accounts import Deposited, Opened
from tests.log import archiving_killed
from tests.log.archiving_killed import options
from tests.synchronizing import PATIENCE

from twofold import ANY, EventQuery, EventStore, open_event_store
from twofold.log.verify import verify_log
from twofold.ports.archives import ArchivableLog

STREAMS = ("a", "b", "c")
STEPS = [*range(1, 10), 0]
"""Of one file there are six; a file that was begun adds those of tidying it."""


async def filled(store: EventStore) -> None:
    for each in STREAMS:
        events = [Opened(account=each), *(Deposited(account=each, amount=Decimal(n)) for n in range(4))]
        await store.append_events(f"Account-{each}", "Account", events, expected_version=ANY)
        await store.close_stream(f"Account-{each}", "Account", expected_version=5, reason="a test")


def run(url: str, folder: Path, action: str, *steps: int) -> tuple[list[str], set[str]]:
    """Return how processes ended that were to be killed at these steps, and the digests of what each has left."""
    command = [sys.executable, archiving_killed.__file__, url, str(folder), action, *map(str, steps)]
    done = subprocess.run(command, check=True, timeout=PATIENCE, stdout=subprocess.PIPE, text=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    return [line[0] for line in lines], {line[1] for line in lines}


async def test_no_payload_is_lost_wherever_archiving_is_killed(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    async with open_event_store(url, options=options(str(folder))) as store:
        await filled(store)
        log = cast(ArchivableLog, store.log)
        before = await log.read(EventQuery.all(), limit=99)
        ended, digests = run(url, folder, "archive", *STEPS)
        assert ended.count("-9") >= 6, "each step of the first file"
        assert ended[-1] == "0"
        assert digests == {blake2b(str(before).encode()).hexdigest()}
        assert await log.read(EventQuery.all(), limit=99) == before
        assert await verify_log(log) == 18
        assert await log.measure_unarchived([f"Account-{name}" for name in STREAMS]) == []
        files = {log.archive.file(each.number).name for each in await log.archives() if each.events}
        assert {each.name for each in folder.iterdir()} == files


async def test_no_removed_payload_stays_wherever_a_tombstone_is_killed(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    async with open_event_store(url, options=options(str(folder))) as store:
        await filled(store)
        log = cast(ArchivableLog, store.log)
        assert run(url, folder, "archive", 0)[0] == ["0"]
        ended, _ = run(url, folder, "tombstone", 1, 3, 0)
        assert (ended[0], ended[-1]) == ("-9", "0")
        assert await verify_log(log) == 21
        assert not list(folder.iterdir())
