"""Twofold, through its public event store: encoding, idempotency and per-append isolation included."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID, uuid4

from bench import workload
from bench.worker import another_process, serve
from bench.workers import consistency, copying, growing, processing, projecting, resting, timing
from twofold import Aggregate, Event, EventStore, Metadata, Repository, Tag, on, open_event_store
from twofold.options import LogOptions


@dataclass(frozen=True, kw_only=True)
class ItemAdded(Event):
    basket_id: str
    product_id: str
    description: str
    quantity: int
    unit_price: str
    currency: str
    country: str
    warehouse: str
    campaign: str


@dataclass(frozen=True, kw_only=True)
class TaggedItemAdded(Event):
    basket_id: Annotated[str, Tag("basket")]
    product_id: Annotated[str, Tag("product")]
    description: str
    quantity: int
    unit_price: str
    currency: str
    country: str
    warehouse: str
    campaign: str


class Basket(Aggregate):
    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.quantity = 0

    @on(ItemAdded)
    def added(self, event: ItemAdded) -> None:
        self.quantity += event.quantity


METADATA = Metadata(
    correlation_id=UUID(workload.METADATA["correlation_id"]),
    user=workload.METADATA["user"],
)


POOL = [ItemAdded(**workload.fields(number)) for number in range(workload.BULK)]
"""Made in advance: what it costs to make an event is the application's."""
TAGGED = [TaggedItemAdded(**workload.fields(number)) for number in range(workload.BULK)]


def events(first: int, count: int) -> list[ItemAdded]:
    start = first % (workload.BULK - count + 1)
    return POOL[start : start + count]


class Twofold:
    """Asks an event store, in the loop in which it was opened."""

    def __init__(self, store: EventStore, url: str, runner: asyncio.Runner) -> None:
        self._store, self._url, self._runner = store, url, runner
        self._numbers = itertools.count()
        self._growing = growing.Growing(url, runner)

    def append(self, writers: int, batch: int, seconds: float) -> float:
        return self._runner.run(self._append(writers, batch, seconds))

    async def _append(self, writers: int, batch: int, seconds: float) -> float:
        async def keep_writing(stream: str) -> int:
            version = 0
            while time.perf_counter() < deadline:
                await self._put(stream, version, batch)
                version += batch
            return version

        start = time.perf_counter()
        deadline = start + seconds
        written = sum(
            await asyncio.gather(*(keep_writing(f"{workload.STREAM_TYPE}-{uuid4()}") for _ in range(writers)))
        )
        return written / (time.perf_counter() - start)

    async def _put(self, stream: str, version: int, count: int) -> None:
        await self._store.append_events(
            stream, workload.STREAM_TYPE, events(version, count), expected_version=version, metadata=METADATA
        )

    def append_tagged(self, batch: int, seconds: float) -> float:
        async def keep_writing() -> int:
            stream, version = f"{workload.STREAM_TYPE}-{uuid4()}", 0
            while time.perf_counter() < deadline:
                await self._store.append_events(
                    stream, workload.STREAM_TYPE, TAGGED[:batch], expected_version=version, metadata=METADATA
                )
                version += batch
            return version

        start = time.perf_counter()
        deadline = start + seconds
        return self._runner.run(keep_writing()) / (time.perf_counter() - start)

    def fill_tagged(self, events: int) -> None:
        async def put_all() -> None:
            for first in range(0, events, workload.BULK):
                stream = f"{workload.STREAM_TYPE}-{first}"
                new = [TaggedItemAdded(**workload.fields(number)) for number in range(first, first + workload.BULK)]
                await self._store.append_events(
                    stream, workload.STREAM_TYPE, new, expected_version=0, metadata=METADATA
                )

        self._runner.run(put_all())

    def copy(self, events: int) -> float:
        return self._runner.run(copying.measure(self._url, f"copy_{next(self._numbers)}", events))

    def export(self, events: int) -> float:
        return self._runner.run(copying.export(self._store, events))

    def import_file(self, events: int) -> float:
        return self._runner.run(copying.import_file(self._store, self._url, f"import_{next(self._numbers)}", events))

    def fill(self, events: int) -> None:
        async def put_all() -> None:
            streams = workload.streams(events)
            for first in range(0, len(streams), 100):
                await asyncio.gather(
                    *(self._put(Basket.stream_id(name), 0, count) for name, count in streams[first : first + 100])
                )

        self._runner.run(put_all())

    def load(self, events: int, times: int) -> float:
        """Fold the whole stream each time."""
        options = LogOptions(short_stream=2 * workload.BULK, snapshots="off")
        return self._runner.run(self._load(EventStore(self._store.log, options=options), events, times))

    def load_kept(self, events: int, times: int) -> float:
        """Fold what stands behind a state that this process keeps."""
        return self._runner.run(self._load(EventStore(self._store.log), events, times))

    def command(self, events: int, how: str, times: int) -> float:
        """Load, decide and append, in a process that keeps the state, or in one that has just begun."""
        return self._runner.run(self._command(events, times, is_fresh=how == "fresh"))

    async def _command(self, events: int, times: int, *, is_fresh: bool) -> float:
        count = 1 if events == workload.LONG else times  # a short stream must not grow
        names = [f"command-{uuid4()}" for _ in range(count)]
        for name in names:
            for version in range(0, events, workload.BULK):
                await self._put(Basket.stream_id(name), version, min(workload.BULK, events - version))
        store, taken = await self._begun(names), []
        for n in range(times):
            if is_fresh:
                await store.snapshots.end()
                store = EventStore(self._store.log, self._store.events)
            baskets = Repository(store, Basket)
            start = time.perf_counter()
            basket = await baskets.load(names[n % count])
            basket.record(POOL[n])
            await baskets.save(basket)
            taken.append(time.perf_counter() - start)
        await store.snapshots.end()
        return statistics.median(taken) * 1000

    async def _begun(self, names: list[str]) -> EventStore:
        """Return the store of a process that has loaded these baskets before."""
        store = EventStore(self._store.log)
        for name in names:
            await Repository(store, Basket).load(name)
        return store

    async def _load(self, store: EventStore, events: int, times: int) -> float:
        repository, taken = Repository(store, Basket), []
        for _ in range(times):
            start = time.perf_counter()
            await repository.load("long" if events == workload.BULK else "short-7")
            taken.append(time.perf_counter() - start)
        return statistics.median(taken) * 1000

    def read(self, events: int) -> float:
        async def count(all_events: AsyncIterator[object]) -> int:
            return len([True async for _ in all_events])

        self._store.events.register(ItemAdded)
        start = time.perf_counter()
        seen = self._runner.run(count(self._store.read()))
        taken = time.perf_counter() - start
        if seen != events:
            raise AssertionError(f"saw {seen} events instead of {events}")
        return events / taken

    def latency(self, commits: int) -> float:
        return self._runner.run(self._latency(commits))

    async def _latency(self, commits: int) -> float:
        arrivals: list[float] = []
        arrived = asyncio.Semaphore(0)
        stream, head = f"{workload.STREAM_TYPE}-{uuid4()}", await self._store.head()

        async def follow() -> None:
            async for batch in self._store.subscribe(after=head):
                arrivals.extend(time.perf_counter() for _ in batch.events)
                arrived.release()

        handler = asyncio.create_task(follow())
        acknowledged = []
        for version in range(commits):
            await self._put(stream, version, 1)
            acknowledged.append(time.perf_counter())
            await arrived.acquire()
        handler.cancel()
        return statistics.median(max(a - b, 0) for a, b in zip(arrivals, acknowledged, strict=True)) * 1000

    def fill_accounts(self, events: int) -> None:
        async def put_all() -> None:
            accounts = workload.accounts(events)
            for first in range(0, events, workload.BULK):
                await self._store.append(
                    [projecting.moved(account) for account in accounts[first : first + workload.BULK]],
                    metadata=METADATA,
                )

        self._runner.run(put_all())

    def project(self, kind: str, workers: int) -> float:
        return self._runner.run(projecting.measure(self._url, f"accounts_{next(self._numbers)}", kind, workers))

    def rebuild(self) -> float:
        return self._runner.run(projecting.rebuild(self._url, f"accounts_{next(self._numbers)}"))

    def follow(self, projections: int, commits: int) -> float:
        name = f"followers_{next(self._numbers)}"
        return self._runner.run(projecting.follow(self._url, name, projections, commits))

    def process(self, events: int) -> float:
        return self._runner.run(processing.measure(self._url, f"process_{next(self._numbers)}", events))

    def wait(self, timers: int, seconds: float) -> float:
        return self._runner.run(timing.rest(self._url, timers, seconds))

    def fire(self, timers: int, count: int) -> float:
        return self._runner.run(timing.fire(self._url, timers, count))

    def consistency(self, commits: int, processes: int) -> float:
        if processes == 1:
            return self._runner.run(consistency.measure(self._url, commits, synchronize=True))
        with another_process("bench.workers.consistency", self._url):
            return self._runner.run(consistency.measure(self._url, commits, synchronize=False))

    def grow(self, events: int) -> float:
        return self._growing.grow(events)

    def growth(self, what: str, times: int) -> float:
        asked = {"start": self._growing.start, "memory": self._growing.memory, "size": self._growing.size}
        return asked[what]() if what in asked else self._growing.request(what, times)

    def idle(self, projections: int, followers: int, seconds: float) -> float:
        return resting.in_a_process("rest", self._url, projections, followers, seconds)

    def seen(self, commits: int) -> float:
        return resting.in_a_process("seen", self._url, commits)

    def followed(self, followers: int, seconds: float) -> float:
        return resting.in_a_process("write_beside", self._url, followers, seconds)

    def reach(self, followers: int, changes: int) -> float:
        return resting.in_a_process("reach", self._url, followers, changes)

    def size(self, events: int) -> float:
        return (
            _sqlite_size(self._url) / events if self._url.startswith("sqlite") else _postgres_size(self._url) / events
        )


def _sqlite_size(url: str) -> float:
    import sqlite3

    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        query = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        return float(connection.execute(query).fetchone()[0])


def _postgres_size(url: str) -> float:
    import psycopg

    query = (
        "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
        "WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema')"
    )
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
        return float(row[0]) if row else 0.0


@contextmanager
def opened(url: str) -> Iterator[Twofold]:
    with asyncio.Runner() as runner:
        store = open_event_store(url)
        runner.run(store.__aenter__())
        try:
            yield Twofold(store, url, runner)
        finally:
            runner.run(store.__aexit__(None, None, None))


if __name__ == "__main__":
    serve(opened(sys.argv[1]))
