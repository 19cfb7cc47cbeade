"""How fast Twofold's read model of accounts follows from its log, in one process or in two that share the work."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import replace

from bench import workload
from twofold import EventStore, Key, Projection, ReadModelSynchronizer, SqlProjection, Tag, on
from twofold.engines.engine import connect
from twofold.options import SynchronizerOptions

PATIENCE = 50.0
Start = Literal["beginning", "now"]


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    account: Annotated[str, Tag("account")]
    amount: Decimal
    currency: str
    kind: str
    reference: str
    merchant: str
    country: str
    terminal: str
    booked_by: str


def moved(account: str) -> Moved:
    """Return an event about an account."""
    return Moved(**workload.movement(account) | {"amount": Decimal("12.55")})


class Account(msgspec.Struct, frozen=True):
    account: Annotated[str, Key()]
    currency: str
    balance: Decimal = Decimal(0)
    movements: int = 0
    last_reference: str = ""


class Accounts(Projection[Account]):
    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]  # each measurement fills a read model of its own

    @on(Moved)
    def moved(self, row: Account | None, event: Moved) -> Account:
        row = row or Account(event.account, event.currency)
        return replace(
            row, balance=row.balance + event.amount, movements=row.movements + 1, last_reference=event.reference
        )


class SlowAccounts(Accounts):
    """Computes for a while with each event, as one that parses, prices or renders does."""

    @on(Moved)
    def moved(self, row: Account | None, event: Moved) -> Account:
        end = time.thread_time() + workload.SLOW
        while time.thread_time() < end:
            pass
        return super().moved(row, event)


class AccountsBySql(SqlProjection):
    def __init__(self, name: str, mark: str) -> None:
        self.name, self.tables, self._mark = name, (name,), mark  # type: ignore[misc]

    def handles(self) -> tuple[type, ...]:
        return (Moved,)

    def key(self, event: Moved) -> str:
        return event.account

    def create(self, connection: Any) -> Any:
        return connection.execute(workload.create_accounts(self.table(self.name)))

    def apply(self, event: Moved, connection: Any) -> Any:
        cents = int(event.amount * 100)
        values = (event.account, event.currency, cents, event.reference)
        return connection.execute(workload.add_movement(self.table(self.name), self._mark), values)


KINDS = {"keyed": Accounts, "slow": SlowAccounts}


@asynccontextmanager
async def running(url: str, name: str, kind: str, start: Start = "now") -> AsyncIterator[ReadModelSynchronizer]:
    engine = connect(url)
    store = EventStore(engine.log)
    synchronizer = ReadModelSynchronizer(store, engine.read_database, options=SynchronizerOptions(lease=1.0))
    if kind in KINDS:
        synchronizer.add(KINDS[kind](name), start=start)
    else:
        synchronizer.add(AccountsBySql(name, "?" if url.startswith("sqlite") else "%s"), start=start)
    await engine.log.open()
    await engine.read_database.open()
    await synchronizer.prepare()
    work = asyncio.create_task(synchronizer.run())
    try:
        yield synchronizer
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await engine.read_database.close()
        await engine.log.close()


async def follow(url: str, name: str, projections: int, commits: int) -> float:
    """Append events one by one, until all projections show the last of them, and return events per second."""
    engine = connect(url)
    store = EventStore(engine.log)
    synchronizer = ReadModelSynchronizer(store, engine.read_database)
    names = [f"{name}_{number}" for number in range(projections)]
    for each in names:
        synchronizer.add(Accounts(each), start="now")
    await engine.log.open()
    await engine.read_database.open()
    work = asyncio.create_task(synchronizer.run())
    try:
        await synchronizer.wait((await store.append([moved("first")])).position, PATIENCE, names)
        start = time.perf_counter()
        for number in range(commits):
            receipt = await store.append([moved(f"account-{number % 10}")])
        await synchronizer.wait(receipt.position, PATIENCE, names)
        return commits / (time.perf_counter() - start)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await engine.read_database.close()
        await engine.log.close()


async def rebuild(url: str, name: str) -> float:
    """Build a read model again beside the one that serves, and return events per second."""
    async with running(url, name, "keyed", start="beginning") as synchronizer:
        head = (await synchronizer.status())[0].head
        await synchronizer.wait(head, PATIENCE, [name])
        start = time.perf_counter()
        await synchronizer.rebuild_projection(name)
        return head / (time.perf_counter() - start)


async def measure(url: str, name: str, kind: str, workers: int) -> float:
    """Let workers stand at the end of the log, each with its share; set them back, and return events per second."""
    async with running(url, name, kind) as synchronizer:
        with ExitStack() as stack:
            others = [stack.enter_context(_worker(url, name, kind)) for _ in range(workers - 1)]
            await synchronizer.control(name).scale(workers)
            head = await _shared(synchronizer, name, workers)
            events, start = workload.projected(head, kind), time.perf_counter()
            await synchronizer.control(name).set_position(head - events)
            for other in others:
                _tell(other)
            await synchronizer.wait(head, PATIENCE, [name])
            return events / (time.perf_counter() - start)


async def _shared(synchronizer: ReadModelSynchronizer, name: str, workers: int) -> int:
    """Wait until so many workers share the work, and return the head of the log."""
    async with asyncio.timeout(PATIENCE):
        while True:
            [status] = [each for each in await synchronizer.status() if each.name == name]
            if len({each.worker for each in status.segments} - {""}) == workers:
                return status.head
            await asyncio.sleep(0.05)


@contextmanager
def _worker(url: str, name: str, kind: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "bench.workers.projecting", url, name, kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise AssertionError("a second worker did not start")
        yield process


def _tell(worker: subprocess.Popen[str]) -> None:
    if worker.stdin is not None:
        worker.stdin.write("go\n")
        worker.stdin.flush()


async def _work(url: str, name: str, kind: str) -> None:
    async with running(url, name, kind) as synchronizer:
        print("ready", flush=True)
        if await asyncio.to_thread(sys.stdin.readline):
            await synchronizer.control(name).scale(2)  # as before; it makes the worker look up at once
            await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(_work(*sys.argv[1:]))
