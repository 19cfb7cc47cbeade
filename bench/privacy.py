"""What personal fields cost: the same events with and without them, in turns within one process, on one engine.

`make bench ARGS=privacy`
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from twofold import ANY, Event, EventStore, Personal, Subject, Tag, open_event_store

EVENTS, WRITERS, ROUNDS, SUBJECTS = 6400, 64, 5, 500


@dataclass(frozen=True, kw_only=True)
class Plain(Event):
    order_id: Annotated[str, Tag("order")]
    customer_id: Annotated[str, Tag("customer")]
    name: str
    email: str
    lines: tuple[str, ...] = ("sku-1", "sku-2", "sku-3")


@dataclass(frozen=True, kw_only=True)
class Private(Event):
    order_id: Annotated[str, Tag("order")]
    customer_id: Annotated[str, Tag("customer"), Subject()]
    name: Annotated[str, Personal()]
    email: Annotated[str, Personal()]
    lines: tuple[str, ...] = ("sku-1", "sku-2", "sku-3")


def events(cls: Callable[..., Any]) -> list[Any]:
    return [
        cls(order_id=f"o{n}", customer_id=f"c{n % SUBJECTS}", name=f"Ann Example {n}", email=f"ann{n}@example.com")
        for n in range(EVENTS)
    ]


async def append(store: EventStore, made: Sequence[Any]) -> float:
    """Append one event at a time from many writers at once."""

    async def write(part: Sequence[Any]) -> None:
        for event in part:
            await store.append_events(f"Order-{event.order_id}", "Order", [event], expected_version=ANY)

    begun = time.perf_counter()
    await asyncio.gather(*(write(made[n::WRITERS]) for n in range(WRITERS)))
    return EVENTS / (time.perf_counter() - begun)


async def append_many(store: EventStore, made: Sequence[Any]) -> float:
    begun = time.perf_counter()
    for start in range(0, EVENTS, 100):
        await store.append(made[start : start + 100])
    return EVENTS / (time.perf_counter() - begun)


async def read(store: EventStore, made: Sequence[Any]) -> float:
    begun = time.perf_counter()
    count = 0
    async for _ in store.read(limit=EVENTS):
        count += 1
    return count / (time.perf_counter() - begun)


async def read_streams(store: EventStore, made: Sequence[Any]) -> float:
    begun = time.perf_counter()
    for event in made[:1000]:
        async for _ in store.read_stream(f"Order-{event.order_id}"):
            pass
    return 1000 / (time.perf_counter() - begun)


async def measure(url: str, keys_url: str) -> None:
    async with open_event_store(url, keys_url=keys_url, master_key=b"0" * 32) as store:
        made = {cls: events(cls) for cls in (Plain, Private)}
        assert store.keys is not None
        await store.keys.prepare([f"c{n}" for n in range(SUBJECTS)])
        for work in (append, append_many):
            await compare(work, store, made)
        await compare_reads(url, made)


async def compare(
    work: Callable[[EventStore, Sequence[Any]], Awaitable[float]], store: EventStore, made: dict[Any, list[Any]]
) -> None:
    rates: dict[Any, list[float]] = {Plain: [], Private: []}
    for _ in range(ROUNDS):
        for cls, found in rates.items():
            found.append(await work(store, made[cls]))
    tell(work.__name__, rates)


async def compare_reads(url: str, made: dict[Any, list[Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stores = {}
        for cls in (Plain, Private):
            stores[cls] = open_event_store(
                f"sqlite:///{folder}/{cls.__name__}.db", keys_url=f"sqlite:///{folder}/keys.db", master_key=b"0" * 32
            )
            await stores[cls].__aenter__()
            await append(stores[cls], made[cls])
        for work in (read, read_streams):
            rates: dict[Any, list[float]] = {Plain: [], Private: []}
            for _ in range(ROUNDS):
                for cls, found in rates.items():
                    found.append(await work(stores[cls], made[cls]))
            tell(work.__name__, rates)
        for store in stores.values():
            await store.__aexit__()


def tell(name: str, rates: dict[Any, list[float]]) -> None:
    plain, private = (statistics.median(rates[cls]) for cls in (Plain, Private))
    print(f"{name:14} {plain:>10,.0f}/s plain {private:>10,.0f}/s personal {100 - 100 * private / plain:>6.1f} % less")


def main() -> None:
    """Measure on SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(f"sqlite:///{folder}/log.db", f"sqlite:///{folder}/keys.db"))


if __name__ == "__main__":
    main()
