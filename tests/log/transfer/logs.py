"""Logs to export, and what they hold."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

from twofold import EventQuery, EventStore
from twofold.messages.stored_event import StoredEvent
from twofold.options import LogOptions
from twofold.ports.event_log import EventLog
from twofold.ports.maintenance import PortableLog, StoredCommand
from twofold.testing.samples import Noted, Revised, append_of, new_command, new_event

SMALL = LogOptions(whole_log_chunk=7, file_part=2000, parquet_rows=20)
"""So that a small log goes through many chunks."""
EVENTS = 100


async def fill(log: EventLog, events: int = EVENTS) -> None:
    """Append a bit of everything, up to a number of events."""
    for head in itertools.count(await log.head()):
        if await log.head() >= events:
            return
        command = new_command(bytes([head % 256]) * 16, b'"n-%d"' % head) if head % 2 else None
        stream = f"Note-{head % 4}" if head % 3 else ""
        event = new_event(stream, f"t{head % 5}", "é", text=f'"é" \\ {head}\n', kind=Noted if head % 7 else Revised)
        await log.append(append_of(event, command=command))


async def contents(log: EventLog) -> tuple[list[StoredEvent], Sequence[StoredCommand], dict[str, str]]:
    """Return all that a log holds."""
    portable = cast("PortableLog", log)
    rows = await log.read(EventQuery.all(), limit=100_000)
    return list(rows), await portable.read_commands(limit=100_000), dict(await portable.tagged_types())


def store_of(log: EventLog) -> EventStore:
    """Return a store that goes through the log in small chunks."""
    return EventStore(log, options=SMALL)
