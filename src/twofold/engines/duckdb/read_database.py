"""Read models on DuckDB: a table of columns for each, to be added up by the million, checkpoints beside them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from twofold.engines.duckdb.columns import keys_to_sql, rows_to_sql
from twofold.engines.duckdb.errors import ABOUT_THE_DATA
from twofold.engines.duckdb.file import DuckDbFile
from twofold.engines.duckdb.selection import load_rows, select_page, select_totals
from twofold.engines.duckdb.snapshots import Manifest, write_snapshot
from twofold.engines.duckdb.statements import run, run_to_read
from twofold.engines.duckdb.transaction import DuckDbReadTransaction
from twofold.errors import CheckpointMovedError, InvalidProjectionError, LimitExceededError, StorageError
from twofold.ports.positions import Positions
from twofold.ports.read_database import IDLE, Changes, Filter, Selection, Style, Total, Values
from twofold.ports.segments import Segment, Step
from twofold.ports.sql import sql_blocks
from twofold.ports.table import Table

log = logging.getLogger(__name__)

SELECT_STEPS = "SELECT name, generation, first_slot, end_slot, epoch, position FROM twofold_checkpoints"
SHARED = sql_blocks("twofold.ports", "checkpoints.sql")
Connection = duckdb.DuckDBPyConnection


class DuckDbReadDatabase:
    """A `ReadDatabase` in a DuckDB file, for reports. One process has it open; others read Parquet snapshots of it.

    Args:
        path: the file; it is created, its folder too.
        snapshots: a folder for Parquet snapshots, which `ParquetSnapshots` reads.
        every: how often one is written there, if a folder is given; one more when the database is closed.
        settings: DuckDB's own, such as `{"threads": 2, "memory_limit": "1GB"}`; by default it takes all cores, and most
            of the memory.
        readers: questions that are answered at the same time, at most.
    """

    batch_size = 10_000  # each commit has its price
    transaction_time = 1.0

    def __init__(
        self,
        path: str | Path,
        *,
        snapshots: str | Path | None = None,
        every: timedelta = timedelta(minutes=1),
        settings: Mapping[str, Any] | None = None,
        readers: int = 4,
    ) -> None:
        self._file = DuckDbFile(path, settings or {}, readers)
        self._folder = Path(snapshots) if snapshots is not None else None
        self._every = every
        self._taking: asyncio.Task[None] | None = None
        self._one_snapshot = threading.Lock()
        self._followers: set[Positions] = set()

    def is_in(self, database: object) -> bool:
        """See `ReadDatabase.is_in`. No event log is kept in DuckDB."""
        return False

    async def open(self) -> None:
        """See `ReadDatabase.open`.

        Raises:
            StorageUnavailableError: another process has the file open.
        """
        await self._file.open()
        if self._folder is not None and self._taking is None:
            self._taking = asyncio.create_task(self._take_snapshots(self._folder), name="twofold-duckdb-snapshots")

    async def close(self) -> None:
        self._file.check_owner()
        if self._taking is not None and self._folder is not None:
            taking, self._taking = self._taking, None
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
            await self._take_snapshot(self._folder)
        self._followers.clear()
        await self._file.close()

    @asynccontextmanager
    async def transaction(self, style: Style = "driver", idle: float = IDLE) -> AsyncIterator[DuckDbReadTransaction]:
        """See `ReadDatabase.transaction`. One at a time; whoever reads goes on meanwhile."""
        if style != "driver":
            raise InvalidProjectionError(
                'on DuckDB, SQL projections get the driver\'s: declare `connection = "driver"`'
            )
        async with self._file.borrow() as connection:
            yield DuckDbReadTransaction(self._file, connection)
        if any(positions.waiters for positions in self._followers):
            for *segment, epoch, position in await self.query(SELECT_STEPS):
                self._tell(Segment(*segment), epoch, position)

    def follow(self, positions: Positions) -> None:
        """See `ReadDatabase.follow`. All that is written is written here: nothing need be watched."""
        self._followers.add(positions)

    def _tell(self, segment: Segment, epoch: int, position: int) -> None:
        for positions in self._followers:
            positions.reached(segment, epoch, position)

    async def query(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        return await self._file.read(lambda reader: run(reader, sql, values))

    async def load(self, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values]:
        return await self._file.read(partial(load_rows, table=table, keys=keys)) if keys else []

    async def commit(self, table: Table, changes: Changes, step: Step) -> None:
        await self._file.write(partial(commit, table=table, changes=changes, step=step))
        self._tell(step.segment, step.epoch, step.after)

    async def select(self, table: Table, selection: Selection) -> tuple[Sequence[Values], int]:
        return await self._file.read(partial(select_page, table=table, selection=selection))

    async def totals(
        self, table: Table, by: Sequence[str], of: Sequence[str], where: Sequence[Filter] = ()
    ) -> Sequence[Total]:
        return await self._file.read(partial(select_totals, table=table, by=by, of=of, where=where))

    async def sql(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """Run a statement of your own that only reads, and return its rows by the names of their columns.

        Read models have the names of their projections, amounts are decimals, moments are in UTC. The statement may
        have `:names` for values. It must never come from outside: DuckDB's SQL can read files.

        Raises:
            MissingTableError: it names a table that is not there.
            StorageError: it is no SQL, or it would write, or the database failed.
        """
        return await self._file.read(partial(run_to_read, sql=sql, values=values))

    async def snapshot(self, folder: str | Path) -> Manifest:
        """Write what all read models hold at this moment into a folder, and return what can be said of it.

        It appears there complete or not at all. Of the earlier ones, the last is kept, for those who are reading it.

        Raises:
            StorageError: it could not be written; the earlier ones are as they were.
        """
        return await self._file.read(partial(self._write_snapshot, folder=Path(folder)))

    def _write_snapshot(self, connection: Connection, folder: Path) -> Manifest:
        with self._one_snapshot:
            return write_snapshot(connection, folder)

    async def _take_snapshots(self, folder: Path) -> None:
        while True:
            await asyncio.sleep(self._every.total_seconds())
            await self._take_snapshot(folder)

    async def _take_snapshot(self, folder: Path) -> None:
        try:
            await self.snapshot(folder)
        except StorageError:
            log.exception("no snapshot was written to %s, the earlier ones are as they were", folder)


def commit(connection: Connection, table: Table, changes: Changes, step: Step) -> None:
    """Take a step within a transaction."""
    segment = {"name": step.segment.projection, "generation": step.segment.generation}
    if not run(connection, SHARED["take_step"], step.values()):
        raise CheckpointMovedError(step.segment.projection)
    try:
        _write_rows(connection, table, changes)
    except ABOUT_THE_DATA as error:
        raise LimitExceededError(f"DuckDB cannot store such a row of {table.name}: {error}") from error
    for event in changes.parked:
        run(connection, SHARED["park"], {**segment, **event._asdict(), "slot": event.slot})
    for position in changes.released:
        run(connection, SHARED["release"], {**segment, "position": position})


def _write_rows(connection: Connection, table: Table, changes: Changes) -> None:
    """Write through appenders, which are by far the fastest way in."""
    if changes.upserts:
        places = [place for place, column in enumerate(table.columns) if column.name in table.key]
        last = {
            tuple(row[place] for place in places): row for row in changes.upserts
        }  # of one key, the first would win
        with connection.appender(table.name, action="upsert") as appender:
            appender.append_rows(rows_to_sql(table, last.values()))
    if changes.deletes:
        with connection.appender(table.name, action="delete", key=list(table.key)) as appender:
            appender.append_rows(keys_to_sql(table, changes.deletes))
