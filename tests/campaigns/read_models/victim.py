"""A process that appends and projects as fast as it can, until it is killed; and the same with a bug in it."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from multiprocessing.connection import Connection
from typing import Any, cast
from uuid import UUID

from tests.accounts import ACCOUNT, Balances, Deposit, Open, Withdraw

from twofold import Command, CommandBus, DeciderHandler, EventStore, ReadModelSynchronizer
from twofold.engines.engine import connect
from twofold.messages.ids import uuid7
from twofold.ports.event_log import Append, Appended, JoinableLog, Rejected
from twofold.ports.inline import Inline
from twofold.ports.read_database import Changes, ReadDatabase
from twofold.ports.segments import Step
from twofold.ports.table import Table
from twofold.projections.runner import ProjectionKind

ACCOUNTS = 8


class InTwoTransactions:
    """The planted bug: rows are committed first, and the checkpoint after them."""

    def __init__(self, behind: ReadDatabase) -> None:
        self._behind = behind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    async def commit(self, table: Table, changes: Changes, step: Step) -> None:
        await self._behind.commit(table, changes, step._replace(after=step.before, event_id=""))
        await self._behind.commit(table, Changes(), step)


class AppendsThenFolds:
    """The planted bug for inline projections: events are committed first, and the rows after them."""

    def __init__(self, behind: JoinableLog) -> None:
        self._behind = behind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    def attach(self, inline: Inline, database: ReadDatabase) -> None:
        self._inline, self._database = inline, database

    async def append(self, append: Append) -> Appended | Rejected:
        outcome = await self._behind.append(append)
        if isinstance(outcome, Appended) and not outcome.repeated:
            async with self._database.transaction() as transaction:
                await transaction.carry_out(self._inline.fold(outcome.first - 1, outcome.last))
        return outcome


def account_of(command: Open | Deposit | Withdraw) -> str:
    return command.account


def bus(store: EventStore) -> CommandBus:
    """Return a bus that opens accounts and pays into them."""
    commands, handler = CommandBus(store), DeciderHandler(store, ACCOUNT, account_of)
    commands.register(Open, handler)
    commands.register(Deposit, handler)
    return commands


def work_until_killed(url: str, seed: int, acknowledged: Connection, kind: ProjectionKind, planted: bool) -> None:
    """Append and project for ever; send the id of each command that was acknowledged."""
    work = _work_inline if kind == "inline" else _work
    asyncio.run(work(url, random.Random(seed), acknowledged, planted))


async def _work_inline(url: str, chance: random.Random, acknowledged: Connection, planted: bool) -> None:
    engine = connect(url)
    await engine.log.open()
    await engine.read_database.open()
    log: Any = AppendsThenFolds(cast(JoinableLog, engine.log)) if planted else engine.log
    store = EventStore(log)
    synchronizer = ReadModelSynchronizer(store, engine.read_database)
    synchronizer.add(Balances(), kind="inline")
    await synchronizer.prepare()
    await asyncio.gather(*(_pay(bus(store), chance, acknowledged) for _ in range(4)))


async def _work(url: str, chance: random.Random, acknowledged: Connection, planted: bool) -> None:
    engine = connect(url)
    read_database: Any = InTwoTransactions(engine.read_database) if planted else engine.read_database
    await engine.log.open()
    await engine.read_database.open()
    store = EventStore(engine.log)
    batch_size = chance.choice([1, 3, 1000])
    runner = ReadModelSynchronizer(store, read_database, [Balances()], batch_size=batch_size)
    await asyncio.gather(runner.run(), *(_pay(bus(store), chance, acknowledged) for _ in range(4)))


async def _pay(commands: CommandBus, chance: random.Random, acknowledged: Connection) -> None:
    while True:
        account = f"a{chance.randrange(ACCOUNTS)}"
        command: Command = Deposit(account=account, amount=Decimal(chance.randrange(1, 100)), command_id=_id(chance))
        await commands.dispatch(command)
        acknowledged.send_bytes(command.command_id.bytes)


def _id(chance: random.Random) -> UUID:
    return UUID(bytes=uuid7().bytes[:8] + chance.randbytes(8))
