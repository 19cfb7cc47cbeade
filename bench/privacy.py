"""What personal fields cost: the same events with and without them, in turns within one process, on both engines.

`make bench ARGS=privacy`
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from bench import servers
from twofold import ANY, Event, EventStore, Personal, Subject, Tag, open_event_store
from twofold.log.keys.keyring import DataKey

EVENTS, WRITERS, ROUNDS, SUBJECTS = 6400, 64, 5, 500


@dataclass(frozen=True, kw_only=True)
class Plain(Event):
    order_id: Annotated[str, Tag("order")]
    customer_id: Annotated[str, Tag("customer")]
    name: str
    email: str
    total: int
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Private(Event):
    """Two of its six fields are personal."""

    order_id: Annotated[str, Tag("order")]
    customer_id: Annotated[str, Tag("customer"), Subject()]
    name: Annotated[str, Personal()]
    email: Annotated[str, Personal()]
    total: int
    lines: tuple[str, ...]


def events(cls: Callable[..., Any]) -> list[Any]:
    return [
        cls(
            order_id=f"o{n}",
            customer_id=f"c{n % SUBJECTS}",
            name=f"Ann Example {n}",
            email=f"ann{n}@example.com",
            total=n,
            lines=("sku-1", "sku-2", "sku-3"),
        )
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


async def measure(urls: Sequence[str], keys_url: str) -> None:
    """Measure on two empty databases of one engine, one for each class."""
    made: dict[Any, list[Any]] = {cls: events(cls) for cls in (Plain, Private)}
    async with AsyncExitStack() as stack:
        stores = {}
        for cls, url in zip(made, urls, strict=True):
            opened = open_event_store(url, keys_url=keys_url, master_key=b"0" * 32)
            stores[cls] = await stack.enter_async_context(opened)
            assert opened.keys is not None
            await opened.keys.prepare([f"c{n}" for n in range(SUBJECTS)])
        for work in (append, append_many, read, read_streams):
            rates: dict[Any, list[float]] = {cls: [] for cls in made}
            for _ in range(ROUNDS):
                for cls, found in rates.items():
                    found.append(await work(stores[cls], made[cls]))
            tell(work.__name__, rates)


def floor() -> None:
    """Tell what the cipher alone takes of each event, which no code around it can save."""
    key, identity = DataKey(b"0" * 32), b"i" * 16 + b"Private"
    encrypted = key.encrypt(b'"name":"Ann Example 1","email":"ann1@example.com"', identity)
    nonce, text = encrypted[:12], encrypted[12:]
    begun = time.perf_counter()
    for _ in range(EVENTS):
        key.open(nonce, text, identity)
    print(f"{'cipher alone':14} {EVENTS / (time.perf_counter() - begun):>10,.0f}/s")


def tell(name: str, rates: dict[Any, list[float]]) -> None:
    plain, private = (statistics.median(rates[cls]) for cls in (Plain, Private))
    print(f"{name:14} {plain:>10,.0f}/s plain {private:>10,.0f}/s personal {100 - 100 * private / plain:>6.1f} % less")


def main() -> None:
    """Measure on SQLite, and on a PostgreSQL server with full durability."""
    floor()
    with tempfile.TemporaryDirectory() as folder:
        print("SQLite")
        urls = [f"sqlite:///{folder}/{name}.db" for name in ("plain", "private")]
        asyncio.run(measure(urls, f"sqlite:///{folder}/keys.db"))
    with tempfile.TemporaryDirectory() as folder, servers.postgres(Path(folder)) as create_database:
        print("PostgreSQL")
        urls = [create_database() for _ in range(2)]
        asyncio.run(measure(urls, urls[1]))


if __name__ == "__main__":
    main()
