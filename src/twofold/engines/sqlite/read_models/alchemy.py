"""Transactions on connections of SQLAlchemy, for SQL projections that ask for them."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from twofold.engines.sqlite.errors import DRIVER_ERRORS, commit_failed, translate
from twofold.tasks import run_in_thread


def alchemy_engine(connect: Callable[[], sqlite3.Connection], *, keep: bool = False) -> Any:
    """Return an engine of SQLAlchemy whose transactions hold the write lock from their beginning.

    Args:
        connect: gives a connection of the driver.
        keep: whether that stays open afterwards.

    Raises:
        ModuleNotFoundError: SQLAlchemy is not installed.
    """
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import NullPool, StaticPool

    engine = create_engine("sqlite://", creator=connect, poolclass=StaticPool if keep else NullPool)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


@asynccontextmanager
async def alchemy_connection(engine: Any, path: Path) -> AsyncIterator[Any]:
    """Open a connection with a transaction, which is committed when the block ends, or rolled back.

    Raises:
        StorageError: nothing was written.
        OutcomeUnknownError: the commit failed in a way that leaves the outcome open.
    """
    translated = translate
    try:
        connection = engine.connect()
        try:
            await run_in_thread(connection.begin)
            yield connection
            translated = commit_failed
            await run_in_thread(connection.commit)
        finally:
            connection.close()  # rolls back what is not committed
    except Exception as error:
        if isinstance(driver_error := getattr(error, "orig", None), DRIVER_ERRORS):
            raise translated(driver_error, path) from error
        raise
