"""Read models on DuckDB: a table of columns for each, to be added up by the million, checkpoints beside them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from twofold.engines.duckdb.database import DuckDbDatabase
from twofold.engines.duckdb.rows import load_rows, write_step
from twofold.engines.duckdb.selection import read_source, select_page, select_totals
from twofold.engines.duckdb.snapshots import Manifest, write_snapshot
from twofold.engines.duckdb.statements import run, run_to_read
from twofold.engines.duckdb.transaction import DuckDbReadTransaction
from twofold.errors import InvalidProjectionError, StorageError
from twofold.options import Backoff, DuckDbOptions
from twofold.ports.positions import Positions
from twofold.ports.read_database import (
    IDLE,
    Changes,
    Filter,
    Found,
    Question,
    Selection,
    Source,
    Style,
    Total,
    Values,
)
from twofold.ports.segments import Segment, Step
from twofold.ports.table import Table
from twofold.tasks import supervise

log = logging.getLogger(__name__)

SELECT_STEPS = "SELECT name, generation, first_slot, end_slot, epoch, position, held_back FROM twofold_checkpoints"
Connection = duckdb.DuckDBPyConnection


class DuckDbReadDatabase:
    """A `ReadDatabase` in a DuckDB file, for reports. One process has it open; others read Parquet snapshots of it.

    Args:
        path: the file; it is created, its folder too.
        snapshots: a folder for Parquet snapshots, which `ParquetSnapshots` reads.
        every: how often one is written there, if a folder is given; one more when the database is closed.
        settings: DuckDB's own, such as `{"threads": 2, "memory_limit": "1GB"}`; by default it takes all cores, and most
            of the memory.
        options: what can be tuned.
    """

    transaction_time = 1.0

    has_indexes = False  # columns are scanned

    def __init__(
        self,
        path: str | Path,
        *,
        snapshots: str | Path | None = None,
        every: timedelta = timedelta(minutes=1),
        settings: Mapping[str, Any] | None = None,
        options: DuckDbOptions | None = None,
    ) -> None:
        self._database = DuckDbDatabase(path, settings or {}, options or DuckDbOptions())
        self.batch_size = self._database.options.step_events
        self._folder = Path(snapshots) if snapshots is not None else None
        self._every = every
        self._taking: asyncio.Task[None] | None = None
        self._one_snapshot = threading.Lock()
        self._followers: set[Positions] = set()

    def is_in(self, database: object) -> bool:
        return False

    async def open(self) -> None:
        """Open the file, and begin to write snapshots if a folder for them is given.

        Raises:
            StorageUnavailableError: another process has the file open.
        """
        if self._database.is_looked_at:
            return
        await self._database.open()
        if self._folder is not None and self._taking is None:
            self._taking = asyncio.create_task(
                supervise("writing snapshots", partial(self._take_snapshots, self._folder), Backoff()),
                name="twofold-duckdb-snapshots",
            )

    async def close(self) -> None:
        self._database.check_owner()
        if self._taking is not None and self._folder is not None:
            taking, self._taking = self._taking, None
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
            await self._take_snapshot(self._folder)
        self._followers.clear()
        await self._database.close()

    @asynccontextmanager
    async def transaction(self, style: Style = "driver", idle: float = IDLE) -> AsyncIterator[DuckDbReadTransaction]:
        """Open a transaction; others that write wait for it, and reading goes on."""
        if style != "driver":
            raise InvalidProjectionError(
                'on DuckDB, SQL projections get the driver\'s: declare `connection = "driver"`'
            )
        async with self._database.borrow() as connection:
            yield DuckDbReadTransaction(self._database, connection)
        if any(positions.waiters for positions in self._followers):
            for *segment, epoch, position, held_back in await self.query(SELECT_STEPS):
                self._tell(Segment(*segment), epoch, position, held_back)

    def follow(self, positions: Positions) -> None:
        """Tell of every step from now on: all of them are written here, so that nothing need be watched."""
        self._followers.add(positions)

    def _tell(self, segment: Segment, epoch: int, position: int, held_back: str) -> None:
        for positions in self._followers:
            positions.reached(segment, epoch, position, held_back)

    async def query(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        return await self._database.read(lambda reader: run(reader, sql, values))

    async def read(self, table: Table, question: Question, source: Source) -> Found:
        return await self._database.read(partial(read_source, table=table, question=question, source=source))

    async def load(self, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values]:
        return await self._database.read(partial(load_rows, table=table, keys=keys)) if keys else []

    def load_at_once(self, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values] | None:
        """Return None: DuckDB reads in a thread."""
        return None

    async def commit(self, table: Table, changes: Changes, step: Step) -> None:
        await self._database.write(partial(write_step, table=table, changes=changes, step=step))
        self._tell(step.segment, step.epoch, step.after, step.held_after)

    async def select(self, table: Table, selection: Selection) -> tuple[Sequence[Values], int]:
        return await self._database.read(partial(select_page, table=table, selection=selection))

    async def totals(
        self, table: Table, by: Sequence[str], of: Sequence[str], where: Sequence[Filter] = ()
    ) -> Sequence[Total]:
        return await self._database.read(partial(select_totals, table=table, by=by, of=of, where=where))

    async def sql(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """Run a SELECT of your own, and return its rows by the names of their columns.

        Read models have the names of their projections, amounts are decimals, moments are in UTC. The statement may
        have `:names` for values. It reads tables and views, and neither files nor what DuckDB's functions tell of the
        process. It can take all time and memory, though, so let it not come from outside.

        Raises:
            MissingTableError: it names a table that is not there.
            StorageError: it is no SELECT over tables, or the database failed.
        """
        return await self._database.read(partial(run_to_read, sql=sql, values=values))

    async def snapshot(self, folder: str | Path) -> Manifest:
        """Write what all read models hold at this moment into a folder, and return what can be said of it.

        It appears there complete or not at all. Of the earlier ones, some are kept for the processes that read them:
        by number and by age, as the options say.

        Raises:
            StorageError: it could not be written; the earlier ones are as they were.
        """
        return await self._database.read(partial(self._write_snapshot, folder=Path(folder)))

    async def forget_copies(self) -> None:
        """Let a snapshot of this moment take the place of all that are in the folder, as a person was forgotten.

        Questions to the removed ones are asked again to the new one.

        Raises:
            StorageError: it could not be written.
        """
        if self._folder is not None:
            only = replace(self._database.options, snapshots_kept=1, snapshots_kept_for=0.0)
            await self._database.read(partial(self._write_snapshot, folder=self._folder, options=only))

    def _write_snapshot(self, connection: Connection, folder: Path, options: DuckDbOptions | None = None) -> Manifest:
        with self._one_snapshot:
            return write_snapshot(connection, folder, options or self._database.options)

    async def _take_snapshots(self, folder: Path) -> None:
        while True:
            await asyncio.sleep(self._every.total_seconds())
            await self._take_snapshot(folder)

    async def _take_snapshot(self, folder: Path) -> None:
        try:
            await self.snapshot(folder)
        except StorageError:
            log.exception("no snapshot was written to %s, the earlier ones are as they were", folder)
