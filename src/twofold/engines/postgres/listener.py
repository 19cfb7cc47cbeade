"""Learning of what other processes commit: LISTEN on a connection of its own, and a poll behind it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import psycopg

from twofold.engines.postgres.database import Connection, PostgresDatabase
from twofold.engines.postgres.pauses import pauses
from twofold.errors import StorageError
from twofold.ports.positions import Positions
from twofold.ports.segments import Segment
from twofold.ports.watermark import Head

log = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between two looks while notifications come by themselves."""
POLL_WITHOUT_LISTENING = 0.02
"""The same behind a pooler, which delivers no notifications, and on a standby, which has none."""

SELECT_HEAD = b"SELECT coalesce((SELECT position FROM twofold_events ORDER BY position DESC LIMIT 1), 0)"
SELECT_STEPS = b"SELECT name, generation, first_slot, end_slot, epoch, position FROM twofold_checkpoints"
_LISTEN = "SELECT 'LISTEN twofold_' || %s::regclass::oid, pg_is_in_recovery()"


class Subject(Protocol):
    """What somebody waits for."""

    table: str
    """The table that it is about; a database may hold several of its name, in schemas of their own."""

    @property
    def waiters(self) -> int:
        """How many wait."""

    async def look(self, connection: Connection) -> None:
        """Find out how things stand."""

    def hear(self, payload: str) -> None:
        """Take note of a notification."""


class HeadOfLog:
    """The head of the log."""

    table = "twofold_events"

    def __init__(self, head: Head) -> None:
        self._head = head

    @property
    def waiters(self) -> int:
        """See `Subject.waiters`."""
        return self._head.waiters

    async def look(self, connection: Connection) -> None:
        """See `Subject.look`."""
        row = await (await connection.execute(SELECT_HEAD)).fetchone()
        self._head.advance(int(row[0]) if row else 0)

    def hear(self, payload: str) -> None:
        """See `Subject.hear`."""
        self._head.advance(int(payload))


class Steps:
    """The steps of read models."""

    table = "twofold_checkpoints"

    def __init__(self, positions: Positions) -> None:
        self._positions = positions

    @property
    def waiters(self) -> int:
        """See `Subject.waiters`."""
        return self._positions.waiters

    async def look(self, connection: Connection) -> None:
        """See `Subject.look`."""
        for row in await (await connection.execute(SELECT_STEPS)).fetchall():
            self._reached(row)

    def hear(self, payload: str) -> None:
        """See `Subject.hear`."""
        self._reached(msgspec.json.decode(payload))

    def _reached(self, row: Sequence[Any]) -> None:
        *segment, epoch, position = row
        self._positions.reached(Segment(*segment), epoch, position)


class Listener:
    """Keeps a subject up to date from the first `start` on; connects again by itself when the server comes back."""

    def __init__(self, database: PostgresDatabase, subject: Subject) -> None:
        self._database = database
        self._subject = subject
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen; does nothing when it has begun."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"twofold-listener-{self._subject.table}")

    async def stop(self) -> None:
        """End it and close its connection."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        waits = pauses()
        while True:
            try:
                connection = await self._database.connect()
                waits = pauses()
                async with connection:
                    await self._follow(connection)
            except (psycopg.Error, StorageError) as error:
                pause = next(waits)
                log.info("listening was interrupted, connecting again in %.2f s: %s", pause, error)
                await asyncio.sleep(pause)

    async def _follow(self, connection: Connection) -> None:
        poll = POLL_WITHOUT_LISTENING
        if not self._database.pooled and (command := await self._listen_command(connection)):
            poll = POLL
            await connection.execute(command)
        looked = False
        while True:
            if self._subject.waiters or not looked:  # after LISTEN, so that nothing falls between the two
                await self._subject.look(connection)
                looked = True
            async for notification in connection.notifies(timeout=poll):
                self._subject.hear(notification.payload)

    async def _listen_command(self, connection: Connection) -> bytes | None:
        """Return LISTEN for the channel of this table, None where there is none."""
        row = await (await connection.execute(_LISTEN, (self._subject.table,))).fetchone()
        assert row is not None  # noqa: S101
        command, standby = row
        return None if standby else str(command).encode()
