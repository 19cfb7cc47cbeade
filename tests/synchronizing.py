"""What tests of the read side have in common: databases, running synchronizers, and events of accounts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from tests.accounts import Deposited, Opened

from twofold import EventStore, ReadModelSynchronizer
from twofold.engines.engine import Engine, connect
from twofold.options import Backoff, Options, SynchronizerOptions

PATIENCE = 30.0


def quick(pause: float = 0.001, **options: Any) -> SynchronizerOptions:
    """Return options with short pauses after failures."""
    return SynchronizerOptions(backoff=Backoff(first=pause, last=pause), **options)


QUICK = quick()


@asynccontextmanager
async def engine_at(url: str, options: Options | None = None) -> AsyncIterator[tuple[Engine, EventStore]]:
    """Open a database as one more process would have it, for as long as the block lasts."""
    engine = connect(url, options=options)
    await engine.log.open()
    await engine.read_database.open()
    try:
        yield engine, EventStore(engine.log, options=(options or Options()).log)
    finally:
        await engine.read_database.close()
        await engine.log.close()


def never_finished() -> SynchronizerOptions:
    """Return options with which no new generation comes near enough to the head; no application can ask for that."""
    options = quick()
    object.__setattr__(options, "finished_within", -1)
    return options


@asynccontextmanager
async def running(synchronizer: ReadModelSynchronizer) -> AsyncIterator[ReadModelSynchronizer]:
    """Run a synchronizer for as long as the block lasts."""
    task = asyncio.create_task(synchronizer.run())
    try:
        yield synchronizer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], Awaitable[object]], patience: float = PATIENCE) -> None:
    """Wait for what another task does in its own time."""
    async with asyncio.timeout(patience):
        while not await condition():  # noqa: ASYNC110  # nothing signals it
            await asyncio.sleep(0.001)


async def write(store: EventStore, *events: object) -> int:
    """Append events, and return the last position."""
    return (await store.append(events)).position


def opened(account: str) -> Opened:
    return Opened(account=account)


def deposited(account: str, amount: int = 1) -> Deposited:
    return Deposited(account=account, amount=Decimal(amount))
