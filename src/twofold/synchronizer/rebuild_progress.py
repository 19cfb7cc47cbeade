"""How far a rebuild has come, and when it will be done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from twofold.errors import RebuildFailedError
from twofold.log.event_store import EventStore
from twofold.ports.checkpoints import SQL, Generation
from twofold.ports.read_database import ReadDatabase
from twofold.synchronizer import rebuild
from twofold.synchronizer.rebuild_checks import Report

LOOK = 0.1
"""Seconds between two looks."""


@dataclass(frozen=True, kw_only=True)
class RebuildProgress:
    """How far a rebuild has come."""

    projection: str
    position: int
    """Up to here the new read model is complete."""
    head: int
    rate: float
    """Positions per second since it was looked at first."""
    remaining: timedelta | None
    """Until it is complete, at this rate; None if it does not move."""


async def follow_rebuild(
    store: EventStore, database: ReadDatabase, generation: Generation, progress: Callable[[RebuildProgress], object]
) -> Report:
    """Wait until a generation serves, or was refused, and return the report.

    Raises:
        RebuildFailedError: it was cancelled.
        StorageError: a database failed.
    """
    begun, first = time.monotonic(), None
    while True:
        role, report = await rebuild.report_of(database, generation.name, generation.number)
        if not role:
            raise RebuildFailedError(generation.name, "it was cancelled, or another rebuild took its place")
        [(position,)] = await database.query(SQL["position_of"], name=generation.name, generation=generation.number)
        position = position or 0  # it was cancelled just now
        first = position if first is None else first
        progress(_progress(generation.name, position, await store.head(), position - first, time.monotonic() - begun))
        if role != "shadow" or report.reason:
            return report
        await asyncio.sleep(LOOK)


def _progress(name: str, position: int, head: int, done: int, seconds: float) -> RebuildProgress:
    rate = done / seconds if seconds else 0.0
    left = timedelta(seconds=(head - position) / rate) if rate else None
    return RebuildProgress(projection=name, position=position, head=max(head, position), rate=rate, remaining=left)
