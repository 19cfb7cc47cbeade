"""The databases of an application of which nothing runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from twofold.ports.event_log import EventLog
from twofold.ports.read_database import ReadDatabase


@asynccontextmanager
async def opened_databases(log: EventLog, databases: Iterable[ReadDatabase]) -> AsyncIterator[None]:
    """Open the log and the read databases of an application, and start nothing of it.

    Raises:
        StorageError: a database is missing, not up to date, or cannot be read; the text names the remedy.
    """
    async with AsyncExitStack() as stack:
        await log.open()
        stack.push_async_callback(log.close)
        for database in databases:
            await database.open()
            stack.push_async_callback(database.close)
        yield
