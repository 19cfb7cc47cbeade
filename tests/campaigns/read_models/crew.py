"""Processes that work on read models, that write and that read, to be killed, frozen, woken and started again."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.accounts import Deposited
from tests.campaigns.read_models.trails import FREEZING, KEYS, POISON, Tallies, edition
from tests.child_processes import CONTEXT
from tests.synchronizing import engine_at

from twofold import ReadModelSynchronizer
from twofold.errors import OutcomeUnknownError, StorageError
from twofold.options import Backoff, SynchronizerOptions

PATIENCE = 60.0


@dataclass(frozen=True)
class Plan:
    """What a process works with. The folder holds the files by which processes tell each other things."""

    url: str
    folder: Path
    lease: float = 0.3
    version: int = 1
    batch_size: int = 100
    retried: int = 1000
    """Parked events that are retried in one transaction."""
    with_sql: bool = True
    """Whether the SQL projection runs as well, whose transactions hold SQLite's lock while its process is frozen."""
    planted: Callable[[], None] | None = None
    """Brings a bug into the process."""


def work(plan: Plan) -> None:
    """Run the projections for ever."""
    asyncio.run(_quietly(plan, _work))


async def _work(plan: Plan) -> None:
    async with engine_at(plan.url) as (engine, store):
        projections: list[Any] = [
            edition(plan.version)(plan.folder),
            *([Tallies(plan.folder)] if plan.with_sql else []),
        ]
        await ReadModelSynchronizer(
            store,
            engine.read_database,
            projections,
            options=SynchronizerOptions(
                lease=plan.lease, retried_at_once=plan.retried, backoff=Backoff(first=0.005, last=0.2)
            ),
            batch_size=plan.batch_size,
        ).run()


def write(plan: Plan, seed: int, pace: float, poison: float) -> None:
    """Append until there is a file `written`."""
    asyncio.run(_quietly(plan, lambda plan: _write(plan, random.Random(seed), pace, poison)))


async def _write(plan: Plan, chance: random.Random, pace: float, poison: float) -> None:
    async with engine_at(plan.url) as (_, store):
        while not (plan.folder / "written").exists():
            with suppress(StorageError, OutcomeUnknownError):  # the server restarts
                await store.append([deposit(chance, poison) for _ in range(chance.choice([1, 1, 5, 30]))])
            await asyncio.sleep(pace)  # as fast as users are


def deposit(chance: random.Random, poison: float = 0.0) -> Deposited:
    """Return an event of a random account, poison now and then."""
    amount = POISON if chance.random() < poison else Decimal(1)
    return Deposited(account=f"a{chance.randrange(KEYS)}", amount=amount)


async def _quietly(plan: Plan, task: Callable[[Plan], Coroutine[Any, Any, None]]) -> None:
    logging.getLogger("twofold").setLevel(logging.CRITICAL)  # failures are what it is all about
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    if plan.planted:
        plan.planted()
    while True:
        with suppress(StorageError):  # the database is away at the start; whoever supervises it tries again
            await task(plan)
            return
        await asyncio.sleep(0.1)


class Member:
    """One process."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        self._process: BaseProcess = CONTEXT.Process(target=target, args=arguments, daemon=True)
        self._process.start()
        self.pid = self._process.pid or 0
        self.is_frozen = False

    @property
    def stopped(self) -> bool:
        """Whether all its threads stand still."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return {(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks} == {"T"}

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        self.is_frozen = True

    def wake(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
        self.is_frozen = False

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def join(self) -> None:
        """Wait until it ends by itself."""
        self._process.join(PATIENCE)
        assert self._process.exitcode == 0, f"a process ended with {self._process.exitcode}; its error stands above"

    def check(self) -> None:
        assert self._process.exitcode is None, f"a process ended with {self._process.exitcode}; its error stands above"


async def within(seconds: float, condition: Callable[[], Coroutine[Any, Any, bool]]) -> bool:
    """Return whether something becomes true in time that other processes do."""
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.01)  # nothing signals it
    return True


def arm(folder: Path) -> None:
    """Let the next process that folds a freezing event stop."""
    (folder / "armed").touch()


def freezing(account: str) -> Deposited:
    return Deposited(account=account, amount=FREEZING)
