"""Read models whose rows tell which events they have seen, in which order; some events act on who folds them."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from zlib import crc32

from tests.accounts import Deposited

from twofold import EventStore, Index, Key, Projection, RecordedEvent, SqlProjection, on
from twofold.ports.checkpoints import SQL
from twofold.ports.read_database import ReadDatabase

POISON = Decimal(13)
"""Fails for as long as nothing is mended."""
FREEZING = Decimal(7)
"""Stops the process that folds it, once, if that is armed."""
KEYS = 40


class PoisonError(Exception):
    """An event that the projection cannot take yet."""


@dataclass(frozen=True)
class Trail:
    """What an account's events were; the chain is another one for any other events, or any other order."""

    account: Annotated[str, Key()]
    count: Annotated[int, Index()]
    last: int
    chain: int
    edition: int
    """The version of the code that made the row."""


def fail(event: Deposited, folder: Path | None) -> None:
    """Raise if the event is poison and nothing is mended; never without a folder."""
    if folder and event.amount == POISON and not (folder / "mended").exists():
        raise PoisonError(event.account)


def freeze(event: Deposited, folder: Path | None) -> None:
    """Stop this process if the event says so, and it is the first to come to it since that was armed."""
    if folder and event.amount == FREEZING and (folder / "armed").exists():
        try:
            (folder / "armed").unlink()
        except FileNotFoundError:  # another process was faster
            return
        os.kill(os.getpid(), signal.SIGSTOP)


class Trails(Projection[Trail]):
    """Remembers the events of each account in order."""

    name = "trails"

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    @on(Deposited)
    def deposited(self, row: Trail | None, event: Deposited, recorded: RecordedEvent[Deposited]) -> Trail:
        fail(event, self._folder)
        freeze(event, self._folder)
        seen = row or Trail(event.account, 0, 0, 0, 0)
        if recorded.position <= seen.last:
            raise AssertionError(f"event {recorded.position} comes after {seen.last}")
        chain = crc32(f"{seen.chain}:{recorded.position}".encode())
        return Trail(event.account, seen.count + 1, recorded.position, chain, self.version)


def edition(version: int) -> type[Trails]:
    """Return the same code in another version."""
    return type("Trails", (Trails,), {"version": version, "__module__": __name__})


class Tallies(SqlProjection):
    """The same in SQL of its own."""

    name = "tallies"
    tables = ("tallies",)

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def handles(self) -> tuple[type, ...]:
        return (Deposited,)

    def key(self, event: Deposited) -> str:
        return event.account

    async def create(self, connection: Any) -> None:
        await _execute(
            connection,
            f"CREATE TABLE {self.table(self.tables[0])} (account TEXT PRIMARY KEY, count INTEGER, chain INTEGER)",
        )

    async def apply(self, event: Deposited, connection: Any, recorded: RecordedEvent[Deposited]) -> None:
        fail(event, self._folder)  # and does not freeze: it has a transaction open
        table, place = self.table(self.tables[0]), recorded.position % 9973
        await _execute(
            connection,
            f"INSERT INTO {table} VALUES (%s, 1, %s) ON CONFLICT (account) DO UPDATE"
            f" SET count = {table}.count + 1, chain = ({table}.chain * 31 + excluded.chain) %% 9973",
            event.account,
            place,
        )


async def _execute(connection: Any, sql: str, *arguments: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute(sql.replace("%s", "?").replace("%%", "%"), arguments)
    else:
        await connection.execute(sql, arguments)


async def fresh_fold(store: EventStore, skipped: set[int], version: int = 1) -> Mapping[str, Trail]:
    """Fold the log in memory."""
    store.events.register(Deposited)
    rows: dict[str, Trail] = {}
    fold = edition(version)()
    async for recorded in store.read():
        if recorded.position not in skipped:
            rows[recorded.event.account] = fold.deposited(
                rows.get(recorded.event.account), recorded.event, recorded=recorded
            )
    return rows


async def fresh_tallies(store: EventStore, skipped: set[int]) -> dict[str, tuple[int, int]]:
    """Fold the log in memory as the SQL does it."""
    rows: dict[str, tuple[int, int]] = {}
    async for recorded in store.read():
        if recorded.position not in skipped:
            place = recorded.position % 9973
            known = rows.get(recorded.event.account)
            rows[recorded.event.account] = (known[0] + 1, (known[1] * 31 + place) % 9973) if known else (1, place)
    return rows


async def skipped_in(database: ReadDatabase, name: str) -> set[int]:
    """Return the positions that somebody decided to leave out of a read model."""
    return {position for position, *_ in await database.query(SQL["skipped"], name=name, after=0)}
