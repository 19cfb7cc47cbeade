"""What Twofold costs while nothing happens, and what those who follow a query cost those who write."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Annotated, Any

from bench import workload
from twofold import ANY, Application, Event, Key, Projection, Query, Tag, on, open_event_store
from twofold.queries.shared_looks import SharedLooks
from twofold.queries.watch import watch

WRITERS = 16
PAUSE = 0.3
"""Seconds between two commits of another process, within which an application comes to rest."""
PATIENCE = 30.0
SETTLED = 2.0
"""Seconds after the start that are not measured."""


@dataclass(frozen=True, kw_only=True)
class Filled(Event):
    basket_id: Annotated[str, Tag("basket")]
    quantity: int


@dataclass(frozen=True)
class Basket:
    basket_id: Annotated[str, Key()]
    quantity: int = 0


class Baskets(Projection[Basket]):
    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]  # as many as the measurement wants

    @on(Filled)
    def filled(self, row: Basket | None, event: Filled) -> Basket:
        return Basket(event.basket_id, event.quantity)


@dataclass(frozen=True)
class GetBasket(Query[Basket | None]):
    basket_id: str


def build(url: str, projections: int) -> Application:
    app = Application(url)
    models = [app.projections.add(Baskets(f"baskets_{number}")) for number in range(projections)]

    async def get(query: GetBasket) -> Basket | None:
        return await models[0].get(query.basket_id)

    app.queries.register(GetBasket, get)
    return app


async def rest(url: str, projections: int, followers: int, seconds: float) -> float:
    """Return the percent of a core that this process uses while nothing happens."""
    async with build(url, projections) as app:
        looks = SharedLooks(app.store.log)
        following = [asyncio.create_task(_follow(app, looks, f"b{number}", [])) for number in range(followers)]
        await asyncio.sleep(SETTLED)
        start, used = time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        share = 100 * (time.process_time() - used) / (time.perf_counter() - start)
        for each in following:
            each.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        return share


async def seen(url: str, commits: int) -> float:
    """Return the milliseconds, median, from a commit in another process until this one, which rests, knows of it."""
    async with build(url, 1) as app:
        command = [sys.executable, "-m", "bench.workers.resting", "commit", url, str(commits)]
        other = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        known = begun = await app.store.head()
        seen_at: dict[int, float] = {}
        while known < begun + commits:
            known = await app.store.log.wait(known, PATIENCE)
            seen_at[known] = time.monotonic()
        told, _ = await other.communicate()
        acknowledged = {int(position): float(at) for position, at in map(str.split, told.decode().splitlines()[:-1])}
        return statistics.median(max(at - acknowledged[each], 0) for each, at in seen_at.items()) * 1000


async def commit(url: str, commits: int) -> float:
    """Commit now and then, so that others come to rest in between, and tell when each commit was acknowledged."""
    async with open_event_store(url) as store:
        for number in range(commits):
            await asyncio.sleep(PAUSE)
            receipt = await store.append([Filled(basket_id=f"b{number}", quantity=1)])
            print(int(receipt.position), time.monotonic(), flush=True)
    return 0.0


async def write_beside(url: str, followers: int, seconds: float) -> float:
    """Return the appends per second of some writers while as many follow queries whose answers do not change."""
    async with build(url, 1) as app:
        looks = SharedLooks(app.store.log)
        following = [asyncio.create_task(_follow(app, looks, f"idle-{number}", [])) for number in range(followers)]
        await asyncio.sleep(SETTLED)
        start = time.perf_counter()
        written = await asyncio.gather(*(_write(app, number, start + seconds) for number in range(WRITERS)))
        taken = time.perf_counter() - start
        for each in following:
            each.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        return sum(written) / taken


async def reach(url: str, followers: int, changes: int) -> float:
    """Return the milliseconds, median, from an acknowledged change until all followers of its row have seen it."""
    async with build(url, 1) as app:
        await _append(app, "b", 1)
        seen: list[float] = []
        looks = SharedLooks(app.store.log)
        following = [asyncio.create_task(_follow(app, looks, "b", seen)) for _ in range(followers)]
        await _until(seen, followers)
        taken = []
        for change in range(changes):
            seen.clear()
            await _append(app, "b", change + 2)
            start = time.perf_counter()
            await _until(seen, followers)
            taken.append(max(seen) - start)
        for each in following:
            each.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        return statistics.median(taken) * 1000


async def _follow(app: Application, looks: SharedLooks, basket: str, seen: list[float]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        async for answer in watch(app.queries, GetBasket(basket), looks=looks):
            if answer is not None:
                seen.append(time.perf_counter())


async def _until(seen: list[float], count: int) -> None:
    async with asyncio.timeout(50):
        while len(seen) < count:  # noqa: ASYNC110  # each follower adds its time
            await asyncio.sleep(0.005)


async def _write(app: Application, number: int, deadline: float) -> int:
    written = 0
    while time.perf_counter() < deadline:
        await _append(app, f"w{number}", written)
        written += 1
    return written


async def _append(app: Application, basket: str, quantity: int) -> Any:
    event = Filled(basket_id=basket, quantity=quantity)
    stream = f"{workload.STREAM_TYPE}-{basket}"
    return await app.store.append_events(stream, workload.STREAM_TYPE, [event], expected_version=ANY)


def in_a_process(do: str, url: str, *numbers: float) -> float:
    """Measure in a process that does nothing else."""
    command = [sys.executable, "-m", "bench.workers.resting", do, url, *map(str, numbers)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ).stdout)


if __name__ == "__main__":
    do, url, *numbers = sys.argv[1:]
    measures = {"rest": rest, "write_beside": write_beside, "reach": reach, "seen": seen, "commit": commit}
    kinds = {
        "rest": (int, int, float), "write_beside": (int, float), "reach": (int, int), "seen": (int,), "commit": (int,),
    }  # fmt: skip
    print(asyncio.run(measures[do](url, *(kind(number) for kind, number in zip(kinds[do], numbers, strict=True)))))  # type: ignore[operator]
