"""Two machines on one database, what stands elsewhere, and the ledger of their clients, with which all must agree."""

from __future__ import annotations

import asyncio
import inspect
import random
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from zlib import crc32

import psycopg
from tests.accounts import Deposited
from tests.engines.postgres.frozen_line import FrozenLine
from tests.restorable import Restorable
from tests.synchronizing import until

from twofold import EventStore, Key, Projection, Reaction, ReadModel, ReadModelSynchronizer, RecordedEvent, on
from twofold.engines.engine import connect
from twofold.errors import RebuildFailedError, StorageError, TwofoldError
from twofold.options import Backoff, Options, PostgresOptions, SqliteOptions, SynchronizerOptions
from twofold.ports.read_database import ReadDatabase

REST = 90.0
OPTIONS = Options(
    postgres=PostgresOptions(
        silence_timeout=0.4, answer_timeout=5.0, statement_timeout=15.0, connect_timeout=2.0, append_timeout=10.0,
        first_pause=0.01, last_pause=0.2,
    ),
    sqlite=SqliteOptions(lock_timeout=3.0),
    synchronizer=SynchronizerOptions(lease=1.0, backoff=Backoff(first=0.01, last=0.3)),
)  # fmt: skip


@dataclass(frozen=True)
class Count:
    """What an account's events were; the chain is another one for any other events, or any other order."""

    account: Annotated[str, Key()]
    count: int
    chain: int


class Near(Projection[Count]):
    """Counts the events of each account."""

    name = "near"

    @on(Deposited)
    def deposited(self, row: Count | None, event: Deposited, recorded: RecordedEvent[Deposited]) -> Count:
        before = row or Count(event.account, 0, 0)
        return Count(event.account, before.count + 1, crc32(recorded.event_id.bytes, before.chain))


class Inline(Near):
    name = "inline"


class Far(Near):
    """Lives in another database than the log."""

    name = "far"


class Mails(Reaction):
    """Sends mails, which no restore takes back."""

    name = "mails"

    def __init__(self) -> None:
        self.sent: list[str] = []

    def handles(self) -> tuple[type, ...]:
        return (Deposited,)

    async def apply(self, event: Deposited, recorded: RecordedEvent[Deposited]) -> None:
        self.sent.append(recorded.event_id.hex)


class Machine:
    """What one process has open, and its worker."""

    def __init__(self, url: str, elsewhere: ReadDatabase | None, mails: Mails) -> None:
        self.engine = connect(url, options=OPTIONS)
        self.store = EventStore(self.engine.log)
        self.synchronizer = ReadModelSynchronizer(
            self.store, self.engine.read_database, options=OPTIONS.synchronizer, changed_code="ignore"
        )
        self.near = self.synchronizer.add(Near())
        self.inline = self.synchronizer.add(Inline(), kind="inline")
        self.far: ReadModel[Count] | None = None
        if elsewhere is not None:
            self.far = self.synchronizer.add(Far(), database=elsewhere)
            self.synchronizer.add(mails, database=elsewhere, start="beginning")

    async def open(self) -> None:
        await self.engine.log.open()
        for database in self.synchronizer.databases:
            await database.open()
        await self.synchronizer.prepare()
        self.synchronizer.begin()

    async def close(self) -> None:
        await self.synchronizer.end()
        for database in self.synchronizer.databases:
            await database.close()
        await self.engine.log.close()

    async def restart_worker(self) -> None:
        await self.synchronizer.end()
        self.synchronizer.begin()


class Crew:
    """All that works with the database, and an operator who does what the errors say.

    Args:
        database: of the log.
        url: the way that the machines take to it.
        folder: for the read models elsewhere.
        chance: of this run.
        line: in front of the server.
        attention: seconds between two looks of the operator.
    """

    def __init__(
        self,
        database: Restorable,
        url: str,
        folder: Path,
        chance: random.Random,
        line: FrozenLine | None = None,
        attention: float = 0.7,
    ) -> None:
        self.database, self.line, self.chance = database, line, chance
        self._url, self._folder, self._attention = url, folder, attention
        self.mails = Mails()
        self.machines: list[Machine] = []
        self._operator: asyncio.Task[None] | None = None
        self._stack = AsyncExitStack()
        self.repairs = 0

    async def start(self) -> None:
        elsewhere = connect(f"sqlite:///{self._folder}/elsewhere.db", options=OPTIONS).read_database
        for place in (elsewhere, None):
            machine = Machine(self._url, place, self.mails)
            self._stack.push_async_callback(machine.close)
            await machine.open()
            self.machines.append(machine)
        await self.execute("CREATE TABLE notes (id TEXT)")
        self._operator = asyncio.create_task(self._operate())

    async def stop(self) -> None:
        if self._operator:
            self._operator.cancel()
            await asyncio.gather(self._operator, return_exceptions=True)
        await self._stack.aclose()

    def machine(self) -> Machine:
        return self.chance.choice(self.machines)

    async def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement past Twofold."""
        if self.database.url.startswith("sqlite"):
            with closing(sqlite3.connect(self.database.url.removeprefix("sqlite:///"), timeout=20)) as file, file:
                return file.execute(sql).fetchall()
        async with await psycopg.AsyncConnection.connect(self.database.url, autocommit=True) as connection:
            cursor = await connection.execute(sql.encode())
            return await cursor.fetchall() if cursor.description else []

    async def come_to_rest(self, patience: float = REST) -> None:
        """Return when every read model has handled all of the log.

        Raises:
            AssertionError: one has not after so many seconds.
        """
        if self.line:
            self.line.thaw()
        try:
            await until(self._is_at_rest, patience)
        except TimeoutError:
            found = [status for each in self.machines for status in await each.synchronizer.status()]
            raise AssertionError(f"it does not come to rest: {found}") from None

    async def _is_at_rest(self) -> bool:
        with suppress(StorageError):
            for machine in self.machines:
                statuses = await machine.synchronizer.status()
                if any(each.position != each.head or each.error or each.building is not None for each in statuses):
                    await asyncio.sleep(0.1)
                    return False
            return True
        return False

    async def _operate(self) -> None:
        """Build again and set back what says that the log has another history, some time after it has said so."""
        synchronizer = self.machines[0].synchronizer
        while True:
            await asyncio.sleep(self._attention)
            with suppress(StorageError, RebuildFailedError, TwofoldError):
                for each in await synchronizer.status():
                    if "another history" in (each.error or "") and each.name == "far":
                        self.repairs += 1
                        await synchronizer.rebuild_projection("far")
                    elif "another history" in (each.error or "") and each.name == "mails":
                        self.repairs += 1
                        try:
                            await synchronizer.control("mails").rewind()
                        except ValueError:  # none of its marks is older than the restore
                            await synchronizer.control("mails").rewind(0)


async def done(result: Any) -> Any:
    """Await what an asynchronous driver returns; the other one is done already."""
    return await result if inspect.isawaitable(result) else result


@dataclass
class Ledger:
    """What the clients were told."""

    epoch: int = 0
    """Odd while the log is being put back to an older state."""
    is_over: bool = False
    writing: int = 0
    """Clients that may still append."""
    tried: set[str] = field(default_factory=set)
    """The ids of all events that a client has tried to append."""
    noted: set[str] = field(default_factory=set)
    """Of those, the ones with a row of the client's own in the same transaction."""
    acked: dict[str, tuple[str, int]] = field(default_factory=dict)
    """The account and the position of each event that was acknowledged and not lost since."""
    followed: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    saved: dict[str, tuple[str, int]] | None = None
    """What was acknowledged when the log was saved."""

    def ack(self, event: str, account: str, position: int, epoch: int) -> None:
        """Note an acknowledgement of what was begun in an epoch."""
        if epoch == self.epoch and not epoch % 2:
            self.acked[event] = (account, position)

    def count_up_to(self, account: str, position: int) -> int:
        """Return how many acknowledged events of an account a position covers."""
        return sum(each == account and at <= position for each, at in self.acked.values())

    @property
    def summary(self) -> str:
        return f"{dict(self.counts)}, {len(self.acked)} of {len(self.tried)} events were acknowledged and kept"

    async def check(self, crew: Crew) -> None:
        """Compare everything with it.

        Raises:
            AssertionError: something differs.
        """
        machine = crew.machines[0]
        log = [each async for each in machine.store.read()]
        ids = [each.event_id.hex for each in log]
        places = {event: place for place, event in enumerate(ids, 1)}
        assert len(places) == len(ids), "an event is stored twice"
        assert set(ids) <= self.tried, "an event is stored that no client has appended"
        wrong = {event for event, (_, position) in self.acked.items() if places.get(event) != position}
        assert not wrong, f"{len(wrong)} acknowledged events are not where they were"
        fold: dict[str, Count] = {}
        for each in log:
            account = each.event.account
            fold[account] = Near().deposited(fold.get(account), each.event, recorded=each)
        for machine in crew.machines:
            for model in (machine.near, machine.inline, *([machine.far] if machine.far else [])):
                await self._check_rows(model, fold, len(ids))
        notes = Counter(event for (event,) in await crew.execute("SELECT id FROM notes"))
        assert notes == Counter(self.noted & set(ids)), "own rows and events are not the same"
        assert set(ids) <= set(crew.mails.sent), "a mail was never sent"
        assert self.followed == ids, "a subscriber has seen something else than the log"

    @staticmethod
    async def _check_rows(model: ReadModel[Count], fold: Mapping[str, Count], head: int) -> None:
        page = await model.page(page_size=1000)
        assert page.position == head, f"{model.name} is at {page.position} of {head}"
        assert {row.account: row for row in page.items} == fold, f"the rows of {model.name} are not those of the log"
