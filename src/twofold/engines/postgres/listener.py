"""Learning of what other processes commit: LISTEN on a connection of its own, and a poll behind it.

1. A notification comes, or a caller begins to wait, or the poll is due.
2. If a caller waits, the tables are read. A notification itself says nothing: any role that may connect can send one.
   Only what a connection of this process has committed, as the server says of each notification, is known already.
3. The connection breaks or is silent: the listener connects again, and reads the tables.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import psycopg

from twofold.engines.postgres.connection import Connection
from twofold.engines.postgres.database import PostgresDatabase
from twofold.errors import StorageError
from twofold.options import Backoff
from twofold.ports.positions import Positions
from twofold.ports.segments import Segment
from twofold.ports.watermark import Watermark
from twofold.tasks import Supervisor, end

log = logging.getLogger(__name__)

SELECT_HEAD = b"SELECT coalesce((SELECT position FROM twofold_events ORDER BY position DESC LIMIT 1), 0)"
SELECT_STEPS = b"SELECT name, generation, first_slot, end_slot, epoch, position, held_back FROM twofold_checkpoints"
_LISTEN = "SELECT 'LISTEN twofold_' || %s::regclass::oid, pg_is_in_recovery()"


class Subject(Protocol):
    """What callers wait for."""

    table: str
    """The table that it is about; a database may hold several of its name, in schemas of their own."""

    @property
    def waiters(self) -> int:
        """How many callers wait."""

    def knows(self, backend: int) -> bool:
        """Return whether the answer to each commit of a server process tells this process all that there is to read."""

    async def look(self, connection: Connection) -> None:
        """Read how things stand."""


class HeadOfLog:
    """The head of the log."""

    table = "twofold_events"

    def __init__(self, head: Watermark, knows: Callable[[int], bool]) -> None:
        self._head = head
        self.knows = knows

    @property
    def waiters(self) -> int:
        """How many callers wait for a later event."""
        return self._head.waiters

    async def look(self, connection: Connection) -> None:
        known = self._head.position
        row = await (await connection.execute(SELECT_HEAD)).fetchone()
        self._head.read(int(row[0]) if row else 0, known)


class Steps:
    """The steps of read models."""

    table = "twofold_checkpoints"

    def __init__(self, positions: Positions) -> None:
        self._positions = positions

    @property
    def waiters(self) -> int:
        """How many callers wait for a read model."""
        return self._positions.waiters

    def knows(self, backend: int) -> bool:
        """Return False: the runner that took the step tells only those who share its `Positions`."""
        return False

    async def look(self, connection: Connection) -> None:
        for row in await (await connection.execute(SELECT_STEPS)).fetchall():
            self._reached(row)

    def _reached(self, row: Sequence[Any]) -> None:
        *segment, epoch, position, held_back = row
        self._positions.reached(Segment(*segment), epoch, position, held_back)


class Listener:
    """Keeps a subject up to date for those who wait, from the first `start` on."""

    def __init__(self, database: PostgresDatabase, subject: Subject) -> None:
        self._database = database
        self._subject = subject
        self._task: asyncio.Task[None] | None = None
        self._signal = asyncio.Event()
        self._is_outdated = True
        """Whether something may have been committed since the last look."""
        self._has_looked = False
        self._loss: psycopg.Error | None = None
        backoff = Backoff(first=database.options.first_pause, last=database.options.last_pause)
        self._supervisor = Supervisor(f"listening for {subject.table}", backoff, self._tell)

    def start(self) -> None:
        """Begin to listen, unless it has begun. A caller who is about to wait is told of what came before, too."""
        if self._task is None or self._task.done():
            name = f"twofold-listener-{self._subject.table}"
            self._task = asyncio.create_task(self._supervisor.run(self._listen), name=name)
        elif self._is_outdated:
            self._signal.set()

    async def stop(self) -> None:
        """End it and close its connection."""
        task, self._task = self._task, None
        if task is not None:
            await end(task)

    async def _listen(self) -> None:
        connection = await self._database.connect()
        try:
            await self._follow(connection)
        finally:
            await connection.close()

    async def _tell(self, error: BaseException, pause: float) -> None:
        is_known = isinstance(error, psycopg.Error | StorageError)
        log.log(
            logging.INFO if is_known else logging.ERROR,
            "listening was interrupted, connecting again in %.2f s: %s", pause, error,
            exc_info=None if is_known else error,
        )  # fmt: skip

    async def _follow(self, connection: Connection) -> None:
        poll, self._has_looked, self._loss = self._database.options.poll_without_listening, False, None
        connection.add_notify_handler(lambda notification: self._note(notification.pid))
        if not self._database.pooled and (command := await self._listen_command(connection)):
            poll = self._database.options.poll
            await connection.execute(command)
        self._is_outdated = True  # after LISTEN, so that nothing falls between the two
        while self._loss is None:
            self._signal.clear()
            if self._is_outdated and (self._subject.waiters or not self._has_looked):
                self._is_outdated = False
                await self._subject.look(connection)
                self._has_looked = True
                self._supervisor.went_well()
            await self._wait(connection, poll)
        raise self._loss

    async def _wait(self, connection: Connection, poll: float) -> None:
        """Return when a notification comes, a caller begins to wait, or the poll is due."""
        loop, descriptor = asyncio.get_running_loop(), connection.fileno()
        loop.add_reader(descriptor, self._hear, connection, descriptor)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(poll):
                    await self._signal.wait()
                    return
            self._is_outdated = True
        finally:
            if self._loss is None:
                loop.remove_reader(descriptor)

    def _hear(self, connection: Connection, descriptor: int) -> None:
        """Take in what the server says while no statement is under way: notifications, or the end of the connection.

        A lost connection is closed by then, and the next socket of this process, such as one of a web server, gets its
        number. The event loop would never read from that one if the number were still known to it as the old one.
        """
        try:
            connection.pgconn.consume_input()
            while notification := connection.pgconn.notifies():
                self._note(notification.be_pid)
        except psycopg.Error as error:
            asyncio.get_running_loop().remove_reader(descriptor)
            self._loss = error
            self._signal.set()

    def look_again(self) -> None:
        """Look as soon as a caller waits: something may have been committed."""
        self._is_outdated = True
        self._signal.set()

    def _note(self, backend: int) -> None:
        if not self._subject.knows(backend):
            self.look_again()

    async def _listen_command(self, connection: Connection) -> bytes | None:
        """Return LISTEN for the channel of this table, None where there is none."""
        row = await (await connection.execute(_LISTEN, (self._subject.table,))).fetchone()
        assert row is not None  # noqa: S101
        command, standby = row
        return None if standby else str(command).encode()
