"""Reads the snapshots that the owner of a DuckDB file writes, in any number of processes.

1. The latest snapshot in the folder is opened: its manifest is read, and a view is made for each of its files.
2. A question is asked on it. If the snapshot was removed in between, the next one is opened and asked.
3. A process that is too slow for the owner gives up after some seconds, by name.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import msgspec

from twofold.engines.duckdb.columns import is_own
from twofold.engines.duckdb.database import SAFE
from twofold.engines.duckdb.errors import DRIVER_ERRORS, translate
from twofold.engines.duckdb.rows import load_rows
from twofold.engines.duckdb.selection import answer, select_page, select_totals
from twofold.engines.duckdb.snapshots import MANIFEST, Manifest, numbers, path_of
from twofold.engines.duckdb.statements import run, run_to_read
from twofold.errors import ReadOnlyStorageError, StorageUnavailableError, TwofoldError
from twofold.options import DuckDbOptions
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
from twofold.ports.segments import Step
from twofold.ports.sql import literal, names, quoted
from twofold.ports.table import Table

T = TypeVar("T")
Connection = duckdb.DuckDBPyConnection

WHOLE = "__whole"
"""What is added to the name of a table that shows all columns."""


class Snapshot:
    """What the read models held at one moment. All answers of one snapshot fit each other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written = _written(folder)
        try:
            self._manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
            self._connection = _views(folder, self._manifest)
        except (*DRIVER_ERRORS, OSError) as error:
            raise self._failed(error) from error

    def is_at(self, folder: Path) -> bool:
        """Return whether this is the snapshot in a folder, and not another one that was given its number again."""
        return self._folder == folder and self._written == _written(folder)

    @property
    def number(self) -> int:
        """Later snapshots have greater ones."""
        return self._manifest.number

    @property
    def taken_at(self) -> datetime:
        """Of when it is."""
        return self._manifest.taken_at

    @property
    def age(self) -> timedelta:
        """How long ago that was, by this machine's clock."""
        return datetime.now(UTC) - self.taken_at

    def position(self, projection: str, *, default: int | None = None) -> int:
        """Return how far a projection had come, or the default if the snapshot does not hold it.

        Raises:
            KeyError: there is none of this name, and no default.
        """
        if default is not None:
            return self._manifest.positions.get(projection, default)
        return self._manifest.positions[projection]

    async def sql(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """Run a statement of your own, as `DuckDbReadDatabase.sql` does.

        Raises:
            StorageUnavailableError: the snapshot has been removed by now; take the latest one.
            MissingTableError: it names a table that is not there.
            StorageError: it is no SELECT, or the files cannot be read.
        """
        return await self.read(partial(run_to_read, sql=sql, values=values))

    async def read(self, job: Callable[[Connection], T]) -> T:
        """Run `job` with a connection that shows this snapshot, in a thread.

        Raises:
            StorageUnavailableError: the snapshot has been removed by now.
            StorageError: the files cannot be read.
        """
        return await asyncio.to_thread(self._read, job)

    def _read(self, job: Callable[[Connection], T]) -> T:
        try:
            with self._connection.cursor() as cursor:
                return job(cursor)
        except DRIVER_ERRORS as error:
            raise self._failed(error) from error

    def _failed(self, error: BaseException) -> TwofoldError:
        if self._folder.is_dir():
            return translate(error, self._folder)
        return _GoneError(f"{self._folder}: this snapshot was removed; take the latest one")


class _GoneError(StorageUnavailableError):
    """A snapshot was removed while it was read."""


class ParquetSnapshots:
    """Reads the latest snapshot in a folder, in as many processes as you like; also a `ReadDatabase` that only reads.

    It needs neither the DuckDB file nor its process, and disturbs neither. No answer is of two snapshots. Read models
    are asked as ever: `ReadModel(ParquetSnapshots("reports"), Revenue())`.
    """

    has_indexes = False
    batch_size = 1
    transaction_time = 1.0

    def __init__(self, folder: str | Path, *, options: DuckDbOptions | None = None) -> None:
        self._folder = Path(folder)
        self._options = options or DuckDbOptions()
        self._found: Snapshot | None = None

    async def latest(self) -> Snapshot:
        """Return the latest snapshot, for several questions to one moment.

        It can be read until later ones have been written and some seconds have passed: see `DuckDbOptions`.

        Raises:
            StorageUnavailableError: there is none.
        """

        async def itself(latest: Snapshot) -> Snapshot:
            return latest

        return await self._with_latest(itself)

    async def sql(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """Run a statement of your own on the latest snapshot; see `DuckDbReadDatabase.sql`.

        Raises:
            StorageUnavailableError: there is no snapshot.
            MissingTableError: it names a table that is not there.
            StorageError: it is no SELECT, or the files cannot be read.
        """
        return await self._read(partial(run_to_read, sql=sql, values=values))

    def is_in(self, database: object) -> bool:
        return False

    async def open(self) -> None:
        """Do nothing: there need not be a snapshot yet."""

    async def close(self) -> None:
        self._found = None

    def transaction(self, style: Style = "driver", idle: float = IDLE) -> AbstractAsyncContextManager[Any]:
        """Refuse: snapshots are only read.

        Raises:
            ReadOnlyStorageError: always.
        """
        raise self._read_only()

    def follow(self, positions: Positions) -> None:
        """Do nothing: a snapshot never moves."""

    async def query(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        return await self._read(lambda connection: run(connection, sql, values))

    async def read(self, table: Table, question: Question, source: Source) -> Found:
        """Answer from the latest snapshot, whose manifest says how far the projection had come; 0 if it does not."""
        job = partial(answer, table=_whole(table), question=question)

        async def ask(latest: Snapshot) -> Found:
            position = latest.position(source.projection, default=0)
            return Found(await latest.read(job), position, position, has_parked=False)

        return await self._with_latest(ask)

    async def load(self, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values]:
        return await self._read(partial(load_rows, table=_whole(table), keys=keys)) if keys else []

    def load_at_once(self, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values] | None:
        """Return None: files are read in a thread."""
        return None

    async def commit(self, table: Table, changes: Changes, step: Step) -> None:
        """Refuse: snapshots are only read.

        Raises:
            ReadOnlyStorageError: always.
        """
        raise self._read_only()

    async def select(self, table: Table, selection: Selection) -> tuple[Sequence[Values], int]:
        return await self._read(partial(select_page, table=_whole(table), selection=selection))

    async def totals(
        self, table: Table, by: Sequence[str], of: Sequence[str], where: Sequence[Filter] = ()
    ) -> Sequence[Total]:
        return await self._read(partial(select_totals, table=_whole(table), by=by, of=of, where=where))

    async def _read(self, job: Callable[[Connection], T]) -> T:
        async def ask(latest: Snapshot) -> T:
            return await latest.read(job)

        return await self._with_latest(ask)

    async def _with_latest(self, use: Callable[[Snapshot], Awaitable[T]]) -> T:
        """Use the latest snapshot; the next one, if it is removed in between."""
        deadline = time.monotonic() + self._options.snapshot_patience
        while True:
            try:
                return await use(await asyncio.to_thread(self._open_latest))
            except _GoneError:
                if time.monotonic() > deadline:
                    raise

    def _open_latest(self) -> Snapshot:
        number = max(numbers(self._folder), default=0)
        if not number:
            raise StorageUnavailableError(
                f"{self._folder}: there is no snapshot; let the owner of the DuckDB file write one, by `snapshots=`"
            )
        path, found = path_of(self._folder, number), self._found
        if found is None or not found.is_at(path):
            found = self._found = Snapshot(path)
        return found

    def _read_only(self) -> ReadOnlyStorageError:
        return ReadOnlyStorageError(
            f"{self._folder}: snapshots are only read; the owner of the DuckDB file writes them"
        )


def _views(folder: Path, manifest: Manifest) -> Connection:
    """Return a connection that shows the tables of a snapshot, with and without the columns of the engine's own."""
    connection = duckdb.connect(config=SAFE)
    for name in manifest.tables:
        path = folder / f"{name}.parquet"
        connection.execute(f"CREATE VIEW {quoted(name + WHOLE)} AS FROM read_parquet({literal(path)})")
        described = connection.execute(f"DESCRIBE {quoted(name + WHOLE)}").fetchall()
        shown = names(column for column, *_ in described if not is_own(column))
        connection.execute(f"CREATE VIEW {quoted(name)} AS SELECT {shown} FROM {quoted(name + WHOLE)}")
    return connection


def _whole(table: Table) -> Table:
    return table._replace(name=table.name + WHOLE)


def _written(folder: Path) -> tuple[int, int] | None:
    """Return what tells a snapshot from another one of its number; None if there is none."""
    try:
        found = (folder / MANIFEST).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
