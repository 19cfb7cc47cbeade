"""One SQLite file: a writer thread that commits in groups, and readers on connections of their own."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal, TypeVar

from twofold.engines.sqlite.errors import DRIVER_ERRORS, commit_failed, translate
from twofold.engines.sqlite.file_identity import FileIdentity, empty_file, refuse_torn_copy
from twofold.engines.sqlite.migration import migrate_file, refuse_outdated
from twofold.engines.sqlite.open_files import note_closed, note_opened, refuse_inherited
from twofold.engines.sqlite.threads import wait_counter
from twofold.engines.sqlite.transaction import Transaction
from twofold.engines.sqlite.watch import Watch
from twofold.engines.sqlite.writer import Writer
from twofold.options import SqliteOptions
from twofold.ports.held_back import reached
from twofold.ports.owner import Owner, not_open

__all__ = ["SqliteDatabase", "Transaction"]

T = TypeVar("T")


class SqliteDatabase:
    """Owner of a database file. The event log and the read models in one file share one.

    Args:
        path: the file; it is created, its folder too. Only the user of this process may read a new one.
        synchronous: `FULL` survives a power cut. `NORMAL` may lose the last commits in one, which only a file that
            holds nothing but read models can afford, and `OFF` the whole file, which must be worth nothing then.
        migrate: whether opening makes the file and brings its schema up to date; otherwise both must be as they should.
        read_only: whether SQLite refuses each write; only without `migrate`.
        options: what can be tuned.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        synchronous: Literal["FULL", "NORMAL", "OFF"] = "FULL",
        migrate: bool = True,
        read_only: bool = False,
        options: SqliteOptions | None = None,
    ) -> None:
        self.path = Path(path)
        self.options = options or SqliteOptions()
        self._synchronous = synchronous
        self._may_migrate = migrate
        self._read_only = read_only
        self._local = threading.local()
        self._read_here_from = self._turn_until = 0.0
        self._turn_of: Callable[[], object] = lambda: None
        self._connections: list[sqlite3.Connection] = []
        self._owner: Owner | None = None
        self._file: FileIdentity | None = None
        self._begun: FileIdentity | None = None
        self._writer: Writer | None = None

    async def open(self) -> None:
        """Open the file and bring its schema up to date; does nothing when it is open.

        Raises:
            OwnershipError: another process or event loop has opened it, or the parent of this process had the file open
                when it was forked off.
            StorageError: in one of its kinds, with the remedy.
        """
        if self._owner is not None:
            return self._owner.check()
        owner = Owner(f"the database {self.path}")
        connection, file = await asyncio.to_thread(self._open_file)
        self._loop = asyncio.get_running_loop()
        self._times_waited = wait_counter(self.path)
        self._readers = ThreadPoolExecutor(self.options.readers, "twofold-sqlite-reader")
        self._writer, self._file = Writer(connection, self.path, file, self.options), file
        self._owner = owner
        return None

    async def close(self) -> None:
        """Finish the accepted jobs and close all connections; may be repeated.

        Raises:
            OwnershipError: another process or event loop has opened it.
        """
        self.check_owner()
        if self._writer is None:
            return
        writer, self._writer, self._owner, file = self._writer, None, None, self._identity()
        await writer.close()
        self._readers.shutdown()
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._file = None
        note_closed(file.identity)

    def check(self) -> None:
        """Make sure that the caller may use the database.

        Raises:
            RuntimeError: it is not open.
            OwnershipError: another process or event loop has opened it.
        """
        self._open_writer()

    def check_owner(self) -> None:
        """Make sure that the caller may close the database, if it is open.

        Raises:
            OwnershipError: another process or event loop has opened it.
        """
        if self._owner is not None:
            self._owner.check()

    async def write(self, job: Callable[[Transaction], T], *, brief: bool = False) -> T:
        """Run `job` in the next commit and return its result once it is durable.

        Jobs that wait at one moment share a commit, in the order of the calls. If one raises, all of the group are
        rolled back and each runs again alone, with `careful` set: a job may run again, and only the last run counts.

        Args:
            job: what to do within the transaction.
            brief: it takes a few microseconds, so that it may run in the event loop while the disk is fast.

        Raises:
            OwnershipError: another process or event loop has opened the database.
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
            OwnershipError: another process or event loop has opened the database.
            StorageError: the database could not be read, or its file was deleted or replaced.
        """
        self._open_writer()
        self._identity().check_now_and_then()
        if brief:
            await self._let_others_run()
            if self._may_read_here():
                with suppress(*DRIVER_ERRORS):  # whatever it is, the thread waits longer, or finds out
                    return self._read_here(job)
        return await self._loop.run_in_executor(self._readers, self._read, job)

    def read_at_once(self, job: Callable[[sqlite3.Connection], T]) -> T | None:
        """Run a brief `job` in the event loop; None if another task or a thread has its turn first, as `read` sees to.

        Raises:
            OwnershipError: another process or event loop has opened the database.
            StorageError: its file was deleted or replaced.
        """
        self._open_writer()
        self._identity().check_now_and_then()
        if self._may_read_here():
            with suppress(*DRIVER_ERRORS):  # the thread finds out
                return self._read_here(job)
        return None

    @asynccontextmanager
    async def borrow(self, *, begin: bool = True) -> AsyncIterator[sqlite3.Connection]:
        """Lend the writer's connection with an open transaction; nothing else is written before the block ends.

        Then it is committed, or rolled back if the block raises. Errors of the driver are translated.

        Args:
            begin: whether to open a transaction; otherwise the block only has its turn.

        Raises:
            OwnershipError: another process or event loop has opened the database.
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

        `PRAGMA data_version` costs microseconds, so it is asked in the event loop; see `Watch` for how often.

        Raises:
            StorageError: the database could not be read, or its file was deleted or replaced.
        """
        connection: sqlite3.Connection | None = None
        options = self.options
        watch = Watch(
            Path(f"{self.path}-wal"),
            brisk=options.poll,
            settling=options.settling,
            rest=options.rest,
            blind=options.blind,
            slowing=options.slowing,
        )
        try:
            connection = self.connect()
            seen = None
            while True:
                self._identity().check_now_and_then()
                version = connection.execute("PRAGMA data_version").fetchone()[0]
                if version != seen:
                    seen = version
                    watch.note_change()
                    yield connection
                await watch.wait()
                if not wanted():
                    return
        except DRIVER_ERRORS as error:
            raise translate(error, self.path) from error
        finally:
            watch.close()
            if connection is not None:
                connection.close()

    def connect(self) -> sqlite3.Connection:
        """Return a new connection, which the caller closes.

        Raises:
            StorageReplacedError: the file was deleted or replaced since it was opened.
        """
        if self._file is not None:
            self._file.check()  # a connection would make a new one
        connection = sqlite3.connect(
            self.path,
            timeout=self.options.lock_timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
        )
        try:
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("PRAGMA fullfsync = 1")  # macOS: without it, fsync does not reach the disk
            connection.execute("PRAGMA cell_size_check = 1")  # a damaged page is an error, not an answer
            if self._read_only:
                connection.execute("PRAGMA query_only = ON")
            add_functions(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def commit(self, connection: sqlite3.Connection) -> None:
        """Commit the transaction of a connection that `connect` has returned.

        Raises:
            StorageError: nothing was written.
            OutcomeUnknownError: the commit failed in a way that leaves the outcome open.
        """
        try:
            connection.execute("COMMIT")
        except DRIVER_ERRORS as error:
            raise commit_failed(error, self.path) from error
        if lost := self._identity().after_commit():
            raise lost

    def _open_writer(self) -> Writer:
        if self._owner is None or self._writer is None:
            raise not_open(str(self.path))
        self._owner.check()
        return self._writer

    def _identity(self) -> FileIdentity:
        if self._file is None:
            raise not_open(str(self.path))
        return self._file

    async def _let_others_run(self) -> None:
        """Give the event loop back now and then, which code that asks again and again would keep."""
        if not self._has_turn(time.monotonic()):
            await asyncio.sleep(0)
            self._turn_until = time.monotonic() + self.options.loop_turn

    def _may_read_here(self) -> bool:
        """Return whether the disk is fast, and no other task has its turn first."""
        now = time.monotonic()
        return self._read_here_from <= now and self._has_turn(now)

    def _has_turn(self, now: float) -> bool:
        """Return whether the task that asks may go on reading in the loop.

        Where another task has read since, this one has given the loop back, and its turn begins: of many requests at
        one moment, none pays for those before it.
        """
        task = asyncio.current_task(self._loop)
        if task is not None and self._turn_of() is not task:
            self._turn_of, self._turn_until = weakref.ref(task), now + self.options.loop_turn
        return now < self._turn_until

    def _read_here(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Read in the loop: a way to a thread and back takes longer, and Python runs one thread at a time anyway."""
        start, waits = time.monotonic(), self._times_waited()
        try:
            return job(self._reader_here)
        finally:
            end = time.monotonic()
            if end - start > self.options.slow_read and self._times_waited() != waits:
                self._read_here_from = end + self.options.respite * (end - start)

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

    def _open_file(self) -> tuple[sqlite3.Connection, FileIdentity]:
        refuse_inherited(self.path)
        try:
            if self._may_migrate:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                _make_private(self.path)
            else:
                refuse_outdated(self.path)
            self._refuse_torn_copy()
            connection = self.connect()
            try:
                if not self._read_only:
                    _until_unlocked(self.options.lock_timeout, lambda: connection.execute("PRAGMA journal_mode = WAL"))
                    migrate_file(connection)
                self._reader_here = self._connect_reader()
                self._reader_here.execute("PRAGMA busy_timeout = 0")  # the loop never waits for a lock
                file, self._begun = FileIdentity(self.path, self.options.file_check), None
                note_opened(file.identity)
                return connection, file
            except BaseException:
                connection.close()
                raise
        except (*DRIVER_ERRORS, OSError) as error:
            raise translate(error, self.path) from error

    def _refuse_torn_copy(self) -> None:
        """Refuse one, unless the file was empty when this object first tried to open it, and failed half-way."""
        if self._begun is None or self._begun.is_replaced():
            self._begun = empty_file(self.path)
        if self._begun is None:
            refuse_torn_copy(self.path, self.options.being_made)


def knows_functions(connection: sqlite3.Connection) -> bool:
    """Return whether a connection knows `twofold_now()`: SQLite adds it a second time only while no statement runs."""
    found = connection.execute("SELECT count(*) FROM pragma_function_list WHERE name = 'twofold_now'")
    return bool(found.fetchone()[0])


def add_functions(connection: sqlite3.Connection) -> None:
    """Let a connection know the functions that the statements about checkpoints call; see `checkpoints.sql`."""
    connection.create_function("twofold_now", 0, lambda: time.time_ns() // 1000)
    connection.create_function("twofold_hex", 1, bytes.hex, deterministic=True)
    connection.create_function("twofold_reached", 2, reached, deterministic=True)


def _make_private(path: Path) -> None:
    """Make a file that only this user can read, if there is none; SQLite's own beside it get the same permissions.

    A file that is there is not opened: closing it would end the locks that this process holds on it.
    """
    if path.exists():
        return
    with suppress(OSError):  # another process was faster, or opening tells the cause
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


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
