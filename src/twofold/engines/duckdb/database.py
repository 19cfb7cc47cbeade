"""One DuckDB file: a thread that writes, threads that read, and one process that has it open."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from twofold.engines.duckdb.errors import DRIVER_ERRORS, commit_failed, translate, translate_opening
from twofold.engines.looking import leaves_to_writers
from twofold.errors import StorageUnavailableError
from twofold.options import DuckDbOptions
from twofold.ports import migrations
from twofold.ports.owner import Owner, not_open

T = TypeVar("T")
Connection = duckdb.DuckDBPyConnection

SAFE: dict[str, Any] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}
"""All that is needed is built in: nothing is fetched while a program runs. And a table that is not there is not looked
for among the variables of the Python code that asks."""


class DuckDbDatabase:
    """Owner of a database file. Transactions that write take turns; reading goes on beside them.

    Args:
        path: the file; it is created, its folder too. Only the user of this process may read a new one.
        settings: DuckDB's own, such as `{"threads": 2, "memory_limit": "1GB"}`.
        options: what can be tuned.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any], options: DuckDbOptions) -> None:
        self.path = Path(path)
        self.options = options
        self._settings = {**SAFE, **settings}
        self.is_looked_at = leaves_to_writers()
        """Whether the file is left closed, for the one process that writes it; see `looking_only`."""
        self._local = threading.local()
        self._root: Connection | None = None
        self._owner: Owner | None = None

    async def open(self) -> None:
        """Open the file and bring its schema up to date; does nothing when it is open.

        Raises:
            OwnershipError: another process or event loop has opened it.
            StorageError: in one of its kinds, with the remedy.
        """
        self.check_owner()
        if self._root is not None:
            return
        owner = Owner(f"the database {self.path}")
        self._turn = asyncio.Lock()
        self._writer_thread = ThreadPoolExecutor(1, "twofold-duckdb-writer")
        self._reader_threads = ThreadPoolExecutor(self.options.readers, "twofold-duckdb-reader")
        try:
            self._root = await self._in_thread(self._connect)
        except BaseException:
            self._stop_threads()
            raise
        self._writer, self._owner = self._root.cursor(), owner

    async def close(self) -> None:
        """Finish what has begun and close the file; may be repeated.

        Raises:
            OwnershipError: another process or event loop has opened it.
        """
        self.check_owner()
        if self._root is None:
            return
        root, self._root, self._owner = self._root, None, None
        await asyncio.to_thread(self._stop_threads)
        self._writer.close()
        self._local = threading.local()  # the readers' connections go with their threads
        await asyncio.to_thread(root.close)

    def check_owner(self) -> None:
        """Make sure that the caller may use the file, if it is open.

        Raises:
            OwnershipError: another process or event loop has opened it.
        """
        if self._owner is not None:
            self._owner.check()

    async def write(self, job: Callable[[Connection], T]) -> T:
        """Run `job` in a transaction of its own and return its result once it is durable.

        Raises:
            StorageError: nothing was written.
            OutcomeUnknownError: the commit failed in a way that leaves the outcome open.
            Exception: whatever the job raises; nothing was written.
        """
        self._check_open()
        async with self._turn:
            return await self._in_thread(self._transact, job)

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[Connection]:
        """Lend the writing connection with an open transaction; it is committed when the block ends, or rolled back.

        Raises:
            StorageError, OutcomeUnknownError: as for `write`.
        """
        self._check_open()
        async with self._turn:
            try:
                await self._in_thread(self._writer.execute, "BEGIN")
                yield self._writer
            except BaseException as error:
                await asyncio.shield(self._in_thread(self._roll_back))  # behind the BEGIN, even if that was cancelled
                if isinstance(error, DRIVER_ERRORS):
                    raise translate(error, self.path) from error
                raise
            await asyncio.shield(self._in_thread(self._commit))

    async def run(self, job: Callable[[], T]) -> T:
        """Run `job` in the writing thread, within a `borrow`."""
        return await self._in_thread(job)

    async def read(self, job: Callable[[Connection], T]) -> T:
        """Run `job` with a connection that reads, in a thread.

        Raises:
            StorageError: the database could not be read.
        """
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._reader_threads, self._read, job)

    async def _in_thread(self, job: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer_thread, job, *arguments)

    def _check_open(self) -> None:
        if self.is_looked_at:
            raise StorageUnavailableError(
                f"{self.path}: a DuckDB file has room for one process, so it is left to the one that writes it"
            )
        if self._root is None:
            raise not_open(str(self.path))
        self.check_owner()

    def _stop_threads(self) -> None:
        self._writer_thread.shutdown()
        self._reader_threads.shutdown()

    def _connect(self) -> Connection:
        connection: Connection | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not self.path.exists()
            connection = duckdb.connect(self.path, config=self._settings)
            if is_new:
                self.path.chmod(0o600)
            _migrate(connection)
            self._keep_log_private()
        except (*DRIVER_ERRORS, OSError) as error:
            raise translate_opening(error, self.path) from error
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        return connection

    def _transact(self, job: Callable[[Connection], T]) -> T:
        try:
            self._writer.execute("BEGIN")
            result = job(self._writer)
        except BaseException as error:
            self._roll_back()
            if isinstance(error, DRIVER_ERRORS):
                raise translate(error, self.path) from error
            raise
        self._commit()
        return result

    def _commit(self) -> None:
        try:
            self._writer.execute("COMMIT")
        except DRIVER_ERRORS as error:
            self._roll_back()
            raise commit_failed(error, self.path) from error
        self._keep_log_private()

    def _keep_log_private(self) -> None:
        """Give the write-ahead log the file's permissions: DuckDB makes it again after each checkpoint, for all."""
        with suppress(OSError):  # there is none at this moment
            log, wanted = self.path.with_name(f"{self.path.name}.wal"), self.path.stat().st_mode & 0o777
            if log.stat().st_mode & 0o777 != wanted:
                log.chmod(wanted)

    def _roll_back(self) -> None:
        with suppress(duckdb.TransactionException):  # there is none: what failed has ended it
            self._writer.execute("ROLLBACK")

    def _read(self, job: Callable[[Connection], T]) -> T:
        try:
            reader: Connection | None = getattr(self._local, "reader", None)
            if reader is None:
                assert self._root is not None  # noqa: S101  # `close` waits for the readers
                reader = self._local.reader = self._root.cursor()
            return job(reader)
        except (*DRIVER_ERRORS, OSError) as error:
            raise translate(error, self.path) from error


def _migrate(connection: Connection) -> None:
    connection.execute("BEGIN")
    connection.execute("CREATE TABLE IF NOT EXISTS twofold_migrations (number INTEGER PRIMARY KEY, name VARCHAR)")
    [(applied,)] = connection.execute("SELECT count(*) FROM twofold_migrations").fetchall()
    for migration in migrations.pending(migrations.load("twofold.engines.duckdb"), applied):
        connection.execute(migration.sql)
        connection.execute("INSERT INTO twofold_migrations VALUES (?, ?)", migration[:2])
    connection.execute("COMMIT")
