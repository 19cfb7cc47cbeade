"""The memory that an export and an import take does not grow with the log."""

from __future__ import annotations

import tracemalloc
from collections.abc import Awaitable
from pathlib import Path
from typing import cast

import pytest
from tests.log.transfer.logs import fill

from twofold import EventStore, export_log, import_log, open_event_store
from twofold.engines.memory import MemoryEventLog
from twofold.log.copy import copy_log
from twofold.options import LogOptions
from twofold.ports.maintenance import PortableLog

SHORT, LONG = 200, 2000
ROW = 800
"""Bytes of memory that an event takes, at least: a quarter of those that the long log has more would be seen."""
OPTIONS = LogOptions(first_chunk=20, whole_log_chunk=20, file_part=8000, parquet_rows=100)


async def peak(work: Awaitable[object]) -> int:
    """Return the most bytes that some work had at once."""
    tracemalloc.start()
    try:
        await work
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
async def test_a_log_ten_times_as_long_takes_no_more_memory(tmp_path: Path, suffix: str) -> None:
    taken: dict[str, list[int]] = {"export": [], "import": []}
    log = MemoryEventLog()
    for events in (SHORT, SHORT, LONG):  # the first round loads what is loaded once
        await fill(log, events)
        async with (
            open_event_store(f"sqlite:///{tmp_path}/source-{len(taken['export'])}.db") as source,
            open_event_store(f"sqlite:///{tmp_path}/target-{len(taken['export'])}.db") as target,
        ):
            await copy_log(log, cast("PortableLog", source.log))
            file = tmp_path / f"log-{len(taken['export'])}.{suffix}"
            taken["export"].append(await peak(export_log(EventStore(source.log, options=OPTIONS), file)))
            taken["import"].append(await peak(import_log(EventStore(target.log, options=OPTIONS), file)))
    for what, (_, short, long) in taken.items():
        assert long < short + ROW * (LONG - SHORT) / 4, f"{what}: {taken}"
