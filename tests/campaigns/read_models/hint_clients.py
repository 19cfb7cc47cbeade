"""Clients that append, join transactions, ask, turn pages and follow the log, and that know what they were told."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol
from uuid import UUID

import psycopg
from tests.campaigns.read_models.hinted import Crew, Ledger, Machine, done
from tests.synchronizing import deposited

from twofold import Receipt, session
from twofold.errors import (
    HistoryChangedError,
    InvalidTokenError,
    OutcomeUnknownError,
    ReadModelBuildingError,
    RepeatedTransactionError,
    StaleReadError,
    StorageError,
)
from twofold.messages.mark import START

REFUSALS = (StorageError, OutcomeUnknownError, StaleReadError, ReadModelBuildingError)
"""What a client may be told instead of an answer while all this goes on."""
ACCOUNTS = [f"a{number}" for number in range(8)]
TRIES = 4


class Client(Protocol):
    async def run(self) -> None:
        """Go on until the ledger says that it is over."""


class Writer:
    """Appends, and reads what it has written."""

    def __init__(self, crew: Crew, ledger: Ledger, chance: random.Random) -> None:
        self._crew, self._ledger, self._chance = crew, ledger, chance
        ledger.writing += 1

    async def run(self) -> None:
        while not self._ledger.is_over:
            machine, account = self._crew.machine(), self._chance.choice(ACCOUNTS)
            append = self._append if self._chance.random() < 0.8 else self._transact
            epoch = self._ledger.epoch
            receipt = await self._stored(machine, append, account)
            if receipt is not None and self._chance.random() < 0.7:
                await self._read(self._crew.machine(), account, receipt, epoch)
            await asyncio.sleep(self._chance.uniform(0, 0.02))
        self._ledger.writing -= 1

    async def _stored(self, machine: Machine, append: Append, account: str) -> Receipt[object] | None:
        """Append one event, again and again under its id; return the receipt that holds."""
        event = UUID(int=self._chance.getrandbits(128), version=4)
        self._ledger.tried.add(event.hex)
        for _ in range(TRIES):
            epoch = self._ledger.epoch
            try:
                receipt = await append(machine, event, account)
            except (StorageError, OutcomeUnknownError):
                self._ledger.counts["unknown"] += 1
                continue
            self._ledger.ack(event.hex, account, receipt.position, epoch)
            self._ledger.counts["append"] += 1
            return receipt if epoch == self._ledger.epoch and not epoch % 2 else None
        return None

    async def _append(self, machine: Machine, event: UUID, account: str) -> Receipt[object]:
        return await machine.store.append([deposited(account)], event_ids=[event])

    async def _transact(self, machine: Machine, event: UUID, account: str) -> Receipt[object]:
        """Store a row of the client's own with the event; what the driver says of that row is no refusal of Twofold."""
        self._ledger.noted.add(event.hex)
        try:
            async with machine.store.transaction() as tx:
                await done(tx.connection.execute(f"INSERT INTO notes VALUES ('{event.hex}')"))
                tx.append([deposited(account)], event_ids=[event])
        except RepeatedTransactionError as repeated:
            return repeated.receipts[0]
        except (psycopg.Error, sqlite3.Error) as error:
            raise StorageError(str(error)) from error
        return tx.receipts[0]

    async def _read(self, machine: Machine, account: str, receipt: Receipt[object], epoch: int) -> None:
        """Make sure that an answer shows what was acknowledged, or that there is none."""
        least = self._ledger.count_up_to(account, receipt.position)
        model = machine.inline if self._chance.random() < 0.3 else machine.near
        try:
            with session(receipt):
                row = await model.get(account)
        except REFUSALS:
            self._ledger.counts["refused"] += 1
            return
        except (InvalidTokenError, HistoryChangedError) as error:
            if epoch == self._ledger.epoch:
                raise AssertionError(f"{error}, but the log has lost nothing since") from error
            return
        self._ledger.counts["query"] += 1
        shown = row.count if row else 0
        if epoch == self._ledger.epoch:
            assert shown >= least, f"{model.name} shows {shown} events of {account}, {least} were acknowledged"


class Pager:
    """Turns pages; each must be of one position."""

    def __init__(self, crew: Crew, ledger: Ledger, chance: random.Random) -> None:
        self._crew, self._ledger, self._chance = crew, ledger, chance

    async def run(self) -> None:
        while not self._ledger.is_over:
            machine = self._crew.machine()
            with suppress(*REFUSALS):
                page = await self._chance.choice([machine.near, machine.inline]).page(page_size=100)
                shown = sum(row.count for row in page.items)
                is_apart = page.furthest > page.position
                self._ledger.counts["page apart" if is_apart else "page"] += 1
                assert shown == page.position or (is_apart and page.position < shown <= page.furthest), (
                    f"a page of position {page.position} to {page.furthest} shows {shown} events"
                )
            await asyncio.sleep(self._chance.uniform(0, 0.05))


class Follower:
    """Follows the log from its own checkpoint on, and begins again when it is told that the history is another one."""

    def __init__(self, crew: Crew, ledger: Ledger) -> None:
        self._crew, self._ledger = crew, ledger
        self._mark = START

    async def run(self) -> None:
        while self._ledger.writing or not await self._has_all():
            try:
                await self._follow()
            except HistoryChangedError:
                self._ledger.counts["another history"] += 1
                self._mark, self._ledger.followed = START, []
            except (StorageError, TimeoutError):
                await asyncio.sleep(0.01)

    async def _follow(self) -> None:
        subscription = self._crew.machine().store.subscribe(after=self._mark)
        async with asyncio.timeout(self._crew.chance.uniform(0.1, 3)):
            async for batch in subscription:
                self._ledger.followed += [each.event_id.hex for each in batch.events]
                self._mark = batch.mark

    async def _has_all(self) -> bool:
        with suppress(StorageError):
            log = self._crew.machines[0].store.log
            return self._mark == (await log.mark(await log.head()) or START)
        return False


def clients_of(crew: Crew, ledger: Ledger, chance: random.Random) -> Sequence[Client]:
    """Return some of each."""
    writers = [Writer(crew, ledger, chance) for _ in range(4)]
    return [*writers, Pager(crew, ledger, chance), Pager(crew, ledger, chance), Follower(crew, ledger)]


class Append(Protocol):
    async def __call__(self, machine: Machine, event: UUID, account: str) -> Receipt[object]: ...
