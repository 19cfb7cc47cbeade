"""SQLite logs for the campaigns: the real one, and ones with a planted bug each."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from pathlib import Path

from twofold.event_log import Append, Appended, EventLog, Rejected
from twofold.sqlite import SqliteDatabase, SqliteEventLog


def sound(path: Path) -> EventLog:
    return SqliteEventLog(SqliteDatabase(path))


async def hold_locks(path: Path, chance: random.Random, seconds: float) -> None:
    """Take the write lock for up to 0.2 s again and again, and roll back; keep an old snapshot open all the while."""
    end = asyncio.get_running_loop().time() + seconds
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM twofold_events").fetchone()
    writer = sqlite3.connect(path, isolation_level=None, timeout=10)
    while asyncio.get_running_loop().time() < end:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("CREATE TABLE IF NOT EXISTS foreign_table (x)")
        await asyncio.sleep(chance.uniform(0, 0.2))
        writer.execute("ROLLBACK")
        await asyncio.sleep(chance.uniform(0, 0.1))
    writer.close()
    reader.close()


class Unconditional(SqliteEventLog):
    """Planted bug: forgets the conditions (check-then-append without the check)."""

    async def append(self, append: Append) -> Appended | Rejected:
        return await super().append(Append(append.events, append.expected, None, append.command))


class InPieces(SqliteEventLog):
    """Planted bug: a commit per event."""

    async def append(self, append: Append) -> Appended | Rejected:
        first = await super().append(Append(append.events[:1], append.expected, append.condition, append.command))
        if isinstance(first, Rejected) or first.repeated:
            return first
        last = first
        for event in append.events[1:]:
            outcome = await super().append(Append((event,)))
            assert isinstance(outcome, Appended)
            last = outcome
        return Appended(first.first, last.last)


class Hasty(SqliteEventLog):
    """Planted bug: acknowledges before the commit."""

    async def append(self, append: Append) -> Appended | Rejected:
        head = await self.head()
        task = asyncio.create_task(super().append(append))
        await asyncio.wait({task}, timeout=0.0005)
        return task.result() if task.done() else Appended(head + 1, head + len(append.events))


def broken(cls: type[SqliteEventLog], path: Path) -> EventLog:
    return cls(SqliteDatabase(path))
