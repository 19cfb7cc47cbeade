"""A process that keeps a read model on DuckDB, to be killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.accounts import Balances

from twofold import EventStore, ReadModelSynchronizer
from twofold.engines.duckdb import DuckDbReadDatabase
from twofold.engines.engine import connect
from twofold.options import SynchronizerOptions
from twofold.ports.read_database import Changes
from twofold.ports.segments import Step
from twofold.ports.table import Table

LEASE = 1.0
"""Seconds until the share of a worker that was killed falls to the next one."""


class Telling:
    """A database that tells of each commit; with the planted bug, the checkpoint is a commit of its own."""

    def __init__(self, behind: DuckDbReadDatabase, commits: Connection, *, planted: bool) -> None:
        self._behind = behind
        self._commits = commits
        self._planted = planted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    async def commit(self, table: Table, changes: Changes, step: Step) -> None:
        if self._planted:
            await self._behind.commit(table, changes, step._replace(after=step.before, event_id=""))
            self._commits.send(step.before)
            await self._behind.commit(table, Changes(), step)
        else:
            await self._behind.commit(table, changes, step)
            self._commits.send(step.after)


def work_until_killed(folder: str, commits: Connection, planted: bool) -> None:
    """Project in small batches; whoever listens kills it."""
    asyncio.run(_work(Path(folder), commits, planted))


async def _work(folder: Path, commits: Connection, planted: bool) -> None:
    async with opened_in(folder) as (store, database):
        telling: Any = Telling(database, commits, planted=planted)
        await ReadModelSynchronizer(
            store, telling, [Balances()], batch_size=7, options=SynchronizerOptions(lease=LEASE)
        ).run()


@asynccontextmanager
async def opened_in(folder: Path) -> AsyncIterator[tuple[EventStore, DuckDbReadDatabase]]:
    """Open the log and the read models in a folder, for as long as the block lasts."""
    log, database = connect(f"sqlite:///{folder}/log.db").log, DuckDbReadDatabase(folder / "rows.duckdb")
    await log.open()
    await database.open()
    try:
        yield EventStore(log), database
    finally:
        await database.close()
        await log.close()
