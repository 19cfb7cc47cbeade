"""How far a rebuild has come, and when it will be done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from twofold.errors import NoWorkerError, RebuildFailedError
from twofold.log.event_store import EventStore
from twofold.options import SynchronizerOptions
from twofold.ports.checkpoints import Generation
from twofold.ports.read_database import ReadDatabase
from twofold.synchronizer import rebuild
from twofold.synchronizer.leases import LeaseTable, read_lease_table
from twofold.synchronizer.rebuild_checks import Report


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
    error: str = ""
    """What holds it up; empty if nothing does."""


async def follow_rebuild(
    store: EventStore,
    database: ReadDatabase,
    generation: Generation,
    progress: Callable[[RebuildProgress], object],
    options: SynchronizerOptions,
) -> Report:
    """Wait until a generation serves, or was refused, and return the report.

    Raises:
        RebuildFailedError: it was cancelled.
        NoWorkerError: no worker that has its code has been there for the length of a lease.
        StorageError: a database failed.
    """
    begun, first, attended = time.monotonic(), None, time.monotonic()
    while True:
        role, report = await rebuild.report_of(database, generation.name, generation.number)
        if not role:
            raise RebuildFailedError(generation.name, "it was cancelled, or another rebuild took its place")
        table = await _lease_table(database)
        rows = [row for row in table.checkpoints if (row.name, row.generation) == (generation.name, generation.number)]
        position = min((row.position for row in rows), default=0)  # none if it was cancelled just now
        first = position if first is None else first
        found = _progress(generation.name, position, await store.head(), position - first, time.monotonic() - begun)
        progress(replace(found, error=next((row.error for row in rows if row.error), "")))
        if role != "building" or report.reason:
            return report
        if any((generation.name, generation.version) in codes for codes in table.workers.values()):
            attended = time.monotonic()
        elif time.monotonic() > attended + options.lease:
            raise NoWorkerError(generation.name, options.lease)
        await asyncio.sleep(options.look)


async def _lease_table(database: ReadDatabase) -> LeaseTable:
    async with database.transaction() as transaction:
        return await read_lease_table(transaction)


def _progress(name: str, position: int, head: int, done: int, seconds: float) -> RebuildProgress:
    rate = done / seconds if seconds else 0.0
    left = timedelta(seconds=(head - position) / rate) if rate else None
    return RebuildProgress(projection=name, position=position, head=head, rate=rate, remaining=left)
