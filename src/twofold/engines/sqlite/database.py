"""One SQLite file: a writer thread that commits in groups, and readers on connections of their own."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Literal, TypeVar

from twofold.engines.sqlite.errors import DRIVER_ERRORS, translate
from twofold.engines.sqlite.transaction import Transaction
from twofold.engines.sqlite.writer import Writer
from twofold.errors import StorageError, StorageUnavailableError
from twofold.ports import migrations

__all__ = ["SqliteDatabase", "Transaction"]

T = TypeVar("T")

BRIEF = 256
"""Rows that are read within a few hundred microseconds, most of them Python's."""
SLOW, RESPITE = 0.002, 20
"""After a read that takes the loop longer than so many seconds, threads do all reading for so many times as long."""
POLL = 0.002
"""Seconds between two looks for what other connections have changed, while somebody waits for it."""


class SqliteDatabase:
    """Owner of a database file. The event log and the read models in one file share one.

    Args:
        path: the file; it is created, its folder too.
        synchronous: `FULL` survives a power cut. `NORMAL` may lose the last commits in one, which only a file that
            holds nothing but read models can afford, and `OFF` the whole file, which must be worth nothing then.
        readers: number of threads, and connections, that read.
        lock_timeout: seconds to wait for another process that writes.
        migrate: whether opening makes the file and brings its schema up to date; otherwise both must be as they should.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        synchronous: Literal["FULL", "NORMAL", "OFF"] = "FULL",
        readers: int = 4,
        lock_timeout: float = 10.0,
        migrate: bool = True,
    ) -> None:
        self.path = Path(path)
        self._synchronous = synchronous
        self.lock_timeout = lock_timeout
        """Seconds to wait for another writer."""
        self._reader_count = readers
        self._may_migrate = migrate
        self._local = threading.local()
        self._here_from = 0.0
        self._connections: list[sqlite3.Connection] = []
        self._writer: Writer | None = None

    async def open(self) -> None:
        """Open the file and bring its schema up to date; does nothing when it is open.

        Raises:
            StorageError: in one of its kinds, with the remedy.
        """
        if self._writer is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._readers = ThreadPoolExecutor(self._reader_count, "twofold-sqlite-reader")
        self._writer = Writer(await asyncio.to_thread(self._open_file), self.path, self.lock_timeout)

    async def close(self) -> None:
        """Finish the accepted jobs and close all connections; may be repeated."""
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        await writer.close()
        self._readers.shutdown()
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    async def write(self, job: Callable[[Transaction], T], *, brief: bool = False) -> T:
        """Run `job` in the next commit and return its result once it is durable.

        Jobs that wait at one moment share a commit, in the order of the calls. If one raises, all of the group are
        rolled back and each runs again alone, with `careful` set: a job may run again, and only the last run counts.

        Args:
            job: what to do within the transaction.
            brief: it takes a few microseconds, so that it may run in the event loop while the disk is fast.

        Raises:
            StorageError: nothing was written.
            OutcomeUnknownError: the commit failed in a way that leaves the outcome open.
        """
        return await self._open_writer().submit(job, brief=brief)

    async def read(self, job: Callable[[sqlite3.Connection], T], *, brief: bool = False) -> T:
        """Run `job` with a reader's connection, in a thread.

        Args:
            job: what to do.
            brief: it reads little, along an index, so that it may run in the event loop while the disk is fast.

        Raises:
            StorageError: the database could not be read.
        """
        self._open_writer()
        if brief and time.monotonic() >= self._here_from:
            with suppress(*DRIVER_ERRORS):  # whatever it is, the thread waits longer, or finds out
                return self._read_here(job)
        return await self._loop.run_in_executor(self._readers, self._read, job)

    @asynccontextmanager
    async def borrow(self, *, begin: bool = True) -> AsyncIterator[sqlite3.Connection]:
        """Lend the writer's connection with an open transaction; nothing else is written before the block ends.

        Then it is committed, or rolled back if the block raises. Errors of the driver are translated.

        Args:
            begin: whether to open a transaction; otherwise the block only has its turn.

        Raises:
            StorageError: nothing was written.
            OutcomeUnknownError: the commit failed in a way that leaves the outcome open.
        """
        loan = self._open_writer().lend(begin=begin)
        try:
            connection = await loan.lent
        except asyncio.CancelledError:
            loan.back.put("ROLLBACK")
            raise
        try:
            yield connection
        except BaseException as error:
            loan.back.put("ROLLBACK")
            await asyncio.shield(loan.ended)
            if isinstance(error, DRIVER_ERRORS):
                raise translate(error, self.path) from error
            raise
        loan.back.put("COMMIT")
        await asyncio.shield(loan.ended)

    async def changes(self, wanted: Callable[[], object]) -> AsyncGenerator[sqlite3.Connection, None]:
        """Yield a connection at once and whenever another one may have changed the file, as long as that is wanted.

        `PRAGMA data_version` costs microseconds, so it is asked in the event loop, every few milliseconds.
        """
        connection = self.connect()
        try:
            seen = None
            while True:
                version = connection.execute("PRAGMA data_version").fetchone()[0]
                if version != seen:
                    seen = version
                    yield connection
                await asyncio.sleep(POLL)
                if not wanted():
                    return
        finally:
            connection.close()

    def connect(self) -> sqlite3.Connection:
        """Return a new connection, which the caller closes."""
        connection = sqlite3.connect(
            self.path, timeout=self.lock_timeout, isolation_level=None, check_same_thread=False, cached_statements=512
        )
        try:
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("PRAGMA fullfsync = 1")  # macOS: without it, fsync does not reach the disk
            connection.execute("PRAGMA cell_size_check = 1")  # a damaged page is an error, not an answer
            add_clock(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise RuntimeError(f"{self.path} is not open; use `async with`, or await open() first")
        return self._writer

    def _read_here(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Read in the loop: a way to a thread and back takes longer, and Python runs one thread at a time anyway."""
        start = time.monotonic()
        try:
            return job(self._here)
        finally:
            end = time.monotonic()
            if end - start > SLOW:
                self._here_from = end + RESPITE * (end - start)

    def _connect_reader(self) -> sqlite3.Connection:
        connection = self.connect()
        self._connections.append(connection)
        return connection

    def _read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = self._connect_reader()
            return job(connection)
        except DRIVER_ERRORS as error:
            raise translate(error, self.path) from error

    def _open_file(self) -> sqlite3.Connection:
        try:
            if self._may_migrate:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            else:
                _refuse_outdated(self.path)
            connection = self.connect()
            try:
                _until_unlocked(self.lock_timeout, lambda: connection.execute("PRAGMA journal_mode = WAL"))
                _migrate(connection)
                self._here = self._connect_reader()
                self._here.execute("PRAGMA busy_timeout = 0")  # the loop never waits for a lock
            except BaseException:
                connection.close()
                raise
        except (*DRIVER_ERRORS, OSError) as error:
            raise translate(error, self.path) from error
        return connection


def add_clock(connection: sqlite3.Connection) -> None:
    """Let a connection know `twofold_now()`."""
    connection.create_function("twofold_now", 0, lambda: time.time_ns() // 1000)


def _until_unlocked(seconds: float, action: Callable[[], object]) -> None:
    """Repeat what SQLite's own busy handler does not cover: changing the journal mode."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            action()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _migrate(connection: sqlite3.Connection) -> None:
    """Apply what is missing in one transaction, under the write lock, so that of several processes one does it."""
    known = migrations.load("twofold.engines.sqlite")
    if _applied(connection) == len(known):
        return  # no lock is needed to find that out
    connection.execute("BEGIN IMMEDIATE")
    try:
        for migration in migrations.pending(known, _applied(connection)):
            for statement in _statements(migration.sql):
                connection.execute(statement)
            connection.execute("INSERT INTO twofold_migrations VALUES (?, ?)", migration[:2])
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _refuse_outdated(path: Path) -> None:
    """Look at a file without changing anything."""
    if not path.is_file():
        raise StorageUnavailableError(f"{path}: there is no such file")
    known = migrations.load("twofold.engines.sqlite")
    with closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as connection:
        tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'twofold_migrations'").fetchone()
        applied = _applied(connection) if tables[0] else 0
    if migrations.pending(known, applied):
        raise StorageError(f"{path}: is at migration {applied} of {len(known)}; run `twofold migrate` on it first")


def _applied(connection: sqlite3.Connection) -> int:
    connection.execute("CREATE TABLE IF NOT EXISTS twofold_migrations (number INTEGER PRIMARY KEY, name TEXT) STRICT")
    return int(connection.execute("SELECT count(*) FROM twofold_migrations").fetchone()[0])


def _statements(script: str) -> Iterator[str]:
    """Split a script; `executescript` would commit the transaction that it runs in."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
