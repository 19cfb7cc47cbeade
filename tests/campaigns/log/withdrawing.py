"""A program that withdraws from one account until it is killed; and the same with a bug in it."""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection
from typing import Any
from uuid import uuid4

from tests.accounts import OverdrawnError, Withdraw, Withdrawn, wire

from twofold import Application, DecisionModel, EventQuery, LogOptions, Options
from twofold.log.folding.decisions import Decisions
from twofold.log.folding.streams import Streams

OPTIONS = Options(log=LogOptions(short_stream=5, short_tail=2, first_chunk=4, snapshot_every=2))


def balance(account: str) -> DecisionModel[int]:
    """Count what is left, as a decision across the log does it."""
    return DecisionModel(
        query=EventQuery.of(Withdrawn, tags=[f"account:{account}"]),
        initial_state=0,
        evolve=lambda taken, event: taken + 1,
    )


def withdraw_until_killed(url: str, account: str, connection: Connection, is_broken: bool) -> None:
    """Withdraw, and tell what was acknowledged."""
    if is_broken:
        plant()
    asyncio.run(_work(url, account, connection))


async def _work(url: str, account: str, connection: Connection) -> None:
    app = Application(url, synchronize=False, options=OPTIONS)
    wire(app)
    async with app:
        connection.send_bytes(b"alive")
        while True:
            await app.store.look(balance(account))
            try:
                command = Withdraw(account=account, command_id=uuid4())
                await app.commands.dispatch(command)
                connection.send_bytes(command.command_id.bytes)
            except OverdrawnError:
                await asyncio.sleep(0.001)


def plant() -> None:
    """Believe that nothing stands behind a kept or a stored state, though its version is the stream's."""
    tail, behind = Streams._tail, Decisions._behind

    async def forgetful(*arguments: Any) -> Any:
        found = await tail(*arguments)
        return found and ([], found[1])

    async def blind(*arguments: Any) -> Any:
        return None if await behind(*arguments) is None else []

    Streams._tail = forgetful  # type: ignore[method-assign,assignment]
    Decisions._behind = blind  # type: ignore[method-assign,assignment]
