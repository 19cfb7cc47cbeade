"""Who disturbs the writers of a SQLite file."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from pathlib import Path


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
