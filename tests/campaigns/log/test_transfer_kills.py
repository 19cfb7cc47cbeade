"""Exports and imports are killed at random moments, again and again; the log comes out the one that was exported."""

from __future__ import annotations

import asyncio
import random
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, cast

import pytest
from tests.campaigns.planted import assert_finds
from tests.child_processes import CONTEXT
from tests.log.transfer.logs import contents, fill

from twofold import EventStore, export_log, import_log
from twofold.engines.engine import connect
from twofold.engines.memory import MemoryEventLog
from twofold.log.copy import copy_log
from twofold.log.transfer import importing, json_lines
from twofold.log.transfer.header import Written
from twofold.options import LogOptions
from twofold.ports.maintenance import PortableLog

TINY = LogOptions(whole_log_chunk=3, file_part=500, parquet_rows=10)
EVENTS = 150
STEP = 0.003
"""Seconds that a process waits behind each chunk, so that it lives long enough to be killed."""
LONGEST_LIFE = 0.2
"""Seconds after its first step that a process lives, at the latest."""
PATIENCE = 60
Bug = Literal["", "an export forgets where it was", "commands are taken for there"]


def work(what: str, url: str, file: Path, told: Connection, bug: Bug) -> None:
    """Export to a file or import it, and tell of the first step, so that the killer knows that it lives."""
    plant(bug)

    async def go() -> None:
        log = connect(url).log
        await log.open()
        told.send_bytes(b"alive")
        store = EventStore(log, options=TINY)
        await (
            export_log(store, file, progress=slowly) if what == "export" else import_log(store, file, progress=slowly)
        )

    asyncio.run(go())


def slowly(*_: object) -> None:
    """Take the processor's time off, chunk by chunk."""
    time.sleep(STEP)


def plant(bug: Bug) -> None:
    """Put a bug into this process."""
    restore = importing.restore_commands  # type: ignore[attr-defined]

    async def restore_the_first(target: Any, commands: Any, after: bytes, end: int) -> None:
        if not await target.read_commands(limit=1):
            await restore(target, commands, after, end)

    broken: Any = {"writer": json_lines.JsonLinesWriter, "importing": importing}
    if bug == "an export forgets where it was":
        broken["writer"]._take_up = lambda writer, header, begin: Written()
    elif bug == "commands are taken for there":
        broken["importing"].restore_commands = restore_the_first


async def filled() -> MemoryEventLog:
    log = MemoryEventLog()
    await fill(log, EVENTS)
    return log


def until_done(what: str, url: str, file: Path, kills: int, chance: random.Random, bug: Bug) -> int:
    """Kill processes that export or import until there were so many kills; let the next one finish.

    Returns:
        how many were killed; fewer if one was done before.

    Raises:
        AssertionError: one has failed.
    """
    for killed in range(kills + 1):
        here, there = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=work, args=(what, url, file, there, bug), daemon=True)
        process.start()
        there.close()
        assert here.poll(PATIENCE), f"the {what} does not begin"
        process.join(PATIENCE if killed == kills else chance.uniform(0, LONGEST_LIFE))
        process.kill()
        process.join()
        if process.exitcode == 0:
            return killed
        assert process.exitcode == -9, f"the {what} fails; its error stands above"
    raise AssertionError(f"the {what} does not come to an end")


async def campaign(url: str, folder: Path, suffix: str, kills: int, seed: int, bug: Bug = "") -> int:
    """Export a log and import it with kills in between, compare both logs, and return how many there were.

    Raises:
        AssertionError: they are not alike, or an export or an import does not go on.
    """
    print(f"seed {seed}")
    chance, file, source = (
        random.Random(seed),
        folder / f"log.{suffix}",
        connect(f"sqlite:///{folder}/source-{seed}.db"),
    )
    await source.log.open()
    await copy_log(await filled(), cast("PortableLog", source.log))
    killed = 0
    for what, at in (("export", f"sqlite:///{folder}/source-{seed}.db"), ("import", url)):
        killed += await asyncio.to_thread(until_done, what, at, file, kills, chance, bug)
    target = connect(url).log
    await target.open()
    try:
        assert await contents(target) == await contents(source.log), "the logs are not alike"
    finally:
        await target.close()
        await source.log.close()
    return killed


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
async def test_no_kill_of_an_export_or_an_import_loses_or_doubles_anything(
    url: str, tmp_path: Path, suffix: str
) -> None:
    assert await campaign(url, tmp_path, suffix, 3, random.randrange(1_000_000)) > 0


@pytest.mark.soak
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
async def test_kills_at_full_length(tmp_path: Path, suffix: str) -> None:
    for round_ in range(20):
        folder = tmp_path / str(round_)
        folder.mkdir()
        await campaign(f"sqlite:///{folder}/target.db", folder, suffix, 15, random.randrange(1_000_000))


@pytest.mark.parametrize("bug", ["an export forgets where it was", "commands are taken for there"])
async def test_a_planted_bug_is_found(tmp_path: Path, bug: Bug) -> None:
    async def attempt(seed: int) -> None:
        folder = tmp_path / str(seed)
        folder.mkdir()
        await campaign(f"sqlite:///{folder}/target.db", folder, "jsonl", 6, seed, bug)

    await assert_finds(attempt, "the import fails|the export fails|the logs are not alike")
