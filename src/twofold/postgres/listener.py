"""Learning of other processes' appends: LISTEN on a connection of its own, and a poll behind it."""

from __future__ import annotations

import asyncio
import logging

import psycopg

from twofold.errors import StorageError
from twofold.head import Head
from twofold.postgres.database import Connection, PostgresDatabase
from twofold.postgres.pauses import pauses

log = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between two looks while notifications come by themselves."""
POLL_WITHOUT_LISTENING = 0.05
"""The same behind a pooler, which delivers no notifications, and on a standby, which has none."""

SELECT_HEAD = b"SELECT coalesce((SELECT position FROM twofold_events ORDER BY position DESC LIMIT 1), 0)"
_LISTEN = b"SELECT 'LISTEN twofold_' || 'twofold_events'::regclass::oid, pg_is_in_recovery()"


class Listener:
    """Keeps a `Head` up to date from the first `start` on; connects again by itself when the server comes back."""

    def __init__(self, database: PostgresDatabase, head: Head) -> None:
        self._database = database
        self._head = head
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen; does nothing when it has begun."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="twofold-postgres-listener")

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
                log.info("listening for appends was interrupted, connecting again in %.2f s: %s", pause, error)
                await asyncio.sleep(pause)

    async def _follow(self, connection: Connection) -> None:
        poll = POLL_WITHOUT_LISTENING
        if not self._database.pooled and (command := await _listen_command(connection)):
            poll = POLL
            await connection.execute(command)
        looked = False
        while True:
            if self._head.waiters or not looked:  # after LISTEN, so that nothing falls between the two
                row = await (await connection.execute(SELECT_HEAD)).fetchone()
                self._head.advance(int(row[0]) if row else 0)
                looked = True
            async for notification in connection.notifies(timeout=poll):
                self._head.advance(int(notification.payload))


async def _listen_command(connection: Connection) -> bytes | None:
    """Return LISTEN for the channel of this log; a database may hold several, in schemas of their own."""
    row = await (await connection.execute(_LISTEN)).fetchone()
    assert row is not None  # noqa: S101
    command, standby = row
    return None if standby else str(command).encode()
