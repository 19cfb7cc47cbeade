"""A program that runs a process until it is killed; and the same with a bug in it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, Literal
from uuid import uuid4

from tests.fulfilment import OrderPlaced, PaymentReceived, build

from twofold import Application
from twofold.options import Backoff, Options, ProcessOptions, SynchronizerOptions
from twofold.ports.inline import AppendEvents
from twofold.processes import ledger, outbox
from twofold.processes.instance import WaitingCommand

Bug = Literal["", "another id with each try", "steps in a second transaction"]
OPTIONS = Options(
    synchronizer=SynchronizerOptions(lease=1.0, backoff=Backoff(first=0.001, last=0.05)),
    processes=ProcessOptions(backoff=Backoff(first=0.01, last=0.05), poll=0.05),
)
ORDERS = 6


def work_until_killed(url: str, seed: float, connection: Connection, bug: Bug) -> None:
    """Place orders, pay some, tell what was acknowledged, and let the process do its work."""
    plant(bug)
    asyncio.run(_work(url, random.Random(seed), connection))


async def _work(url: str, chance: random.Random, connection: Connection) -> None:
    app, _ = build(url, options=OPTIONS)
    async with app:
        connection.send_bytes(b"alive")
        while True:
            await _trade(app, chance, connection)
            await asyncio.sleep(chance.uniform(0, 0.05))


async def _trade(app: Application, chance: random.Random, connection: Connection) -> None:
    orders = [f"o{chance.randrange(2**48)}" for _ in range(ORDERS)]
    await app.store.append([OrderPlaced(order=each, deadline=chance.uniform(0, 0.2)) for each in orders])
    for each in orders:
        connection.send_bytes(b"placed " + each.encode())
    await asyncio.sleep(chance.uniform(0, 0.1))
    paid = [each for each in orders if chance.random() < 0.5]
    if paid:
        await app.store.append([PaymentReceived(order=each) for each in paid])
    for each in paid:
        connection.send_bytes(b"paid " + each.encode())


def plant(bug: Bug) -> None:
    """Break one rule, in this process."""
    if bug == "another id with each try":
        carry_out: Any = outbox._carry_out

        async def with_another_id(bus: Any, process: Any, waiting: WaitingCommand) -> Any:
            decode = bus.types.decode
            other = type("Types", (), {"__getattr__": lambda _, name: getattr(bus.types, name)})()
            other.decode = lambda stored: bus.types.identified(decode(stored), uuid4())
            twin = type("Bus", (), {"types": other, "execute": bus.execute})()
            return await carry_out(twin, process, waiting)

        outbox._carry_out = with_another_id
    elif bug == "steps in a second transaction":
        write = ledger.Ledger.write

        async def in_two(self: ledger.Ledger, suffix: str, written: ledger.Written, *more: Any) -> None:
            await write(self, suffix, ledger.Written(written.instances), *more)
            if written.taken:
                await asyncio.sleep(0)
                await _append_alone(self, written.taken)

        ledger.Ledger.write = in_two  # type: ignore[method-assign,assignment]


async def _append_alone(of: ledger.Ledger, taken: Sequence[Any]) -> None:
    def steps() -> Any:
        yield AppendEvents(of._append(taken))

    async with of.database.transaction() as transaction:
        await transaction.carry_out(steps())
