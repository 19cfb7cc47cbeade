"""One SQLite file: a writer thread that commits in groups, and readers on connections of their own."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal, NamedTuple, TypeVar

from twofold import migrations
from twofold.errors import OutcomeUnknownError, StorageError, StorageUnavailableError
from twofold.sqlite.errors import DRIVER_ERRORS, may_have_committed, translate

T = TypeVar("T")

POLL = 0.005
"""Seconds between two looks for what other connections have changed, while somebody waits for it."""
MAX_GROUP = 1000
"""At most so many jobs share one commit."""


class Transaction:
    """What a job writes with. `head` is the last position of the log, once somebody has asked for it."""

    __slots__ = ("before_commit", "careful", "connection", "head")

    def __init__(self, connection: sqlite3.Connection, *, careful: bool) -> None:
        self.connection = connection
        self.careful = careful
        self.head: int | None = None
        self.before_commit: Callable[[Transaction], None] | None = None
        """What is to be done once for all jobs, after them."""


class _Job(NamedTuple):
    run: Callable[[Transaction], Any]
    future: asyncio.Future[Any]


class _Loan(NamedTuple):
    """The writer's connection is lent to a task, and the thread waits until it has it back."""

    begin: bool
    lent: asyncio.Future[sqlite3.Connection]
    back: SimpleQueue[str]
    """The statement that ends the transaction."""
    ended: asyncio.Future[None]


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
        self._lock_timeout = lock_timeout
        self._reader_count = readers
        self._may_migrate = migrate
        self._jobs: SimpleQueue[_Job | _Loan | None] = SimpleQueue()
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._thread: threading.Thread | None = None

    async def open(self) -> None:
        """Open the file and bring its schema up to date; does nothing when it is open.

        Raises:
            StorageError: in one of its kinds, with the remedy.
        """
        if self._thread is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._readers = ThreadPoolExecutor(self._reader_count, "twofold-sqlite-reader")
        self._writer = await asyncio.to_thread(self._open_writer)
        self._thread = threading.Thread(target=self._write_groups, name="twofold-sqlite-writer", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Finish the accepted jobs and close all connections; may be repeated."""
        if self._thread is None:
            return
        thread, self._thread = self._thread, None
        self._jobs.put(None)
        await asyncio.to_thread(thread.join)
        self._readers.shutdown()
        for connection in (*self._connections, self._writer):
            connection.close()
        self._connections.clear()

    async def write(self, job: Callable[[Transaction], T]) -> T:
        """Run `job` in the next commit and return its result once it is durable.

        Jobs that wait at one moment share a commit, in the order of the calls. If one raises, all of the group are
        rolled back and each runs again alone, with `careful` set: a job may run twice, and only the last run counts.

        Raises:
            StorageError: nothing was written.
            OutcomeUnknownError: the commit failed in a way that leaves the outcome open.
        """
        future: asyncio.Future[T] = self._running_loop().create_future()
        self._jobs.put(_Job(job, future))
        return await future

    async def read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run `job` with a reader's connection, in a thread.

        Raises:
            StorageError: the database could not be read.
        """
        return await self._running_loop().run_in_executor(self._readers, self._read, job)

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
        loop = self._running_loop()
        loan = _Loan(begin, loop.create_future(), SimpleQueue(), loop.create_future())
        self._jobs.put(loan)
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
            self.path, timeout=self._lock_timeout, isolation_level=None, check_same_thread=False, cached_statements=512
        )
        try:
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("PRAGMA fullfsync = 1")  # macOS: without it, fsync does not reach the disk
            connection.execute("PRAGMA mmap_size = 268435456")
            connection.execute("PRAGMA cell_size_check = 1")  # a damaged page is an error, not an answer
            add_clock(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._thread is None:
            raise RuntimeError(f"{self.path} is not open; use `async with`, or await open() first")
        return self._loop

    def _read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = self.connect()
                self._connections.append(connection)
            return job(connection)
        except DRIVER_ERRORS as error:
            raise translate(error, self.path) from error

    def _open_writer(self) -> sqlite3.Connection:
        try:
            if self._may_migrate:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            else:
                _refuse_outdated(self.path)
            connection = self.connect()
            try:
                _until_unlocked(self._lock_timeout, lambda: connection.execute("PRAGMA journal_mode = WAL"))
                connection.execute("PRAGMA wal_autocheckpoint = 4000")
                _migrate(connection)
            except BaseException:
                connection.close()
                raise
        except (*DRIVER_ERRORS, OSError) as error:
            raise translate(error, self.path) from error
        return connection

    def _write_groups(self) -> None:
        while (job := self._jobs.get()) is not None:
            if isinstance(job, _Loan):
                self._lend(job)
                continue
            group, job = self._group_with(job)
            try:
                outcomes = self._commit(group)
            except BaseException as error:  # a roll-back that fails; whatever it is, nobody may wait for ever
                outcomes = [OutcomeUnknownError(f"{self.path}: {error}; repeat it with the same ids") for _ in group]
            if self._loop.is_closed():  # nobody is left to be told
                break
            self._loop.call_soon_threadsafe(_resolve, group, outcomes)
            if job is None:
                break
            if isinstance(job, _Loan):
                self._lend(job)

    def _group_with(self, first: _Job) -> tuple[list[_Job], _Job | _Loan | None]:
        """Return the jobs that wait, and what ends the group: its last job, a loan, or None to end for good."""
        group: list[_Job] = [first]
        last: _Job | _Loan | None = first
        try:
            while len(group) < MAX_GROUP and isinstance(last := self._jobs.get_nowait(), _Job):
                group.append(last)
        except Empty:
            pass
        return group, last

    def _lend(self, loan: _Loan) -> None:
        try:
            if loan.begin:
                self._writer.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            self._loop.call_soon_threadsafe(_settle, loan.lent, translate(error, self.path))
            return
        self._loop.call_soon_threadsafe(_settle, loan.lent, self._writer)
        outcome: object = None
        ending = loan.back.get()
        try:
            if loan.begin and self._writer.in_transaction:
                self._writer.execute(ending)
        except sqlite3.Error as error:
            outcome = translate(error, self.path)
            if ending == "COMMIT" and may_have_committed(error):
                outcome = OutcomeUnknownError(f"{self.path}: the commit failed: {error}; look before going on")
            self._roll_back()
        self._loop.call_soon_threadsafe(_settle, loan.ended, outcome)

    def _commit(self, group: list[_Job], *, careful: bool = False) -> list[Any]:
        """Return each job's result, or the error that it is to raise."""
        connection = self._writer
        committing = False
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            return [translate(error, self.path) for _ in group]
        try:
            transaction = Transaction(connection, careful=careful)
            results = [job.run(transaction) for job in group]
            if transaction.before_commit is not None:
                transaction.before_commit(transaction)
            committing = True
            connection.execute("COMMIT")
        except BaseException as error:
            self._roll_back()
            if not careful:
                return [self._commit([job], careful=True)[0] for job in group]
            if not isinstance(error, sqlite3.Error | MemoryError):
                return [error]
            if committing and isinstance(error, sqlite3.Error) and may_have_committed(error):
                return [OutcomeUnknownError(f"{self.path}: the commit failed: {error}; repeat it with the same ids")]
            return [translate(error, self.path)]
        return results

    def _roll_back(self) -> None:
        if self._writer.in_transaction:  # some errors, such as a full disk, have rolled back by themselves
            self._writer.execute("ROLLBACK")


def add_clock(connection: sqlite3.Connection) -> None:
    """Let a connection know `twofold_now()`."""
    connection.create_function("twofold_now", 0, lambda: time.time_ns() // 1000)


def _resolve(group: list[_Job], outcomes: list[Any]) -> None:
    for job, outcome in zip(group, outcomes, strict=True):
        _settle(job.future, outcome)


def _settle(future: asyncio.Future[Any], outcome: object) -> None:
    if future.done():  # its caller was cancelled
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


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
    known = migrations.load("twofold.sqlite")
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
    known = migrations.load("twofold.sqlite")
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
