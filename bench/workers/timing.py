"""What timers cost while they wait, and how soon those fire that are due at one moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from bench.workers.projecting import PATIENCE
from bench.workers.resting import SETTLED
from twofold import Application, AwareDatetime, Event
from twofold.processes import Process, at, due, evolve, starts

LATER = timedelta(days=90)
AHEAD = timedelta(seconds=3)
"""Between the setting of timers and the moment at which they are due."""


@dataclass(frozen=True, kw_only=True)
class Reminded(Event):
    reminder: str
    at: AwareDatetime


class Remind(Process[bool]):
    name, initial = "remind", False

    @starts(Reminded, key="reminder")
    def reminded(self, state: bool, event: Reminded) -> Iterator[object]:
        yield at(event.at, "due")

    @due("due")
    def fire(self, state: bool) -> tuple[()]:
        return ()

    @evolve(due("due"))
    def has_fired(self, state: bool) -> bool:
        return True

    def is_completed(self, state: bool) -> bool:
        return state


def build(url: str) -> Application:
    app = Application(url)
    app.processes.add(Remind())
    return app


async def rest(url: str, timers: int, seconds: float) -> float:
    """Return the percent of a core that this process uses while timers wait."""
    async with build(url) as app:
        await _wait_for(app, timers)
        await asyncio.sleep(SETTLED)
        start, used = time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        return 100 * (time.process_time() - used) / (time.perf_counter() - start)


async def fire(url: str, timers: int, count: int) -> float:
    """Return the milliseconds from the moment at which timers are due until all have fired, beside those that wait."""
    async with build(url) as app:
        await _wait_for(app, timers)
        fired = await _fired(app) + count
        moment = datetime.now(UTC) + AHEAD
        await _remind(app, count, moment)
        await asyncio.sleep((moment - datetime.now(UTC)).total_seconds())
        async with asyncio.timeout(PATIENCE):
            while await _fired(app) < fired:  # noqa: ASYNC110  # nothing signals it
                await asyncio.sleep(0.01)
        return (datetime.now(UTC) - moment).total_seconds() * 1000


async def _wait_for(app: Application, timers: int) -> None:
    """Let as many timers wait, at least."""
    waiting = (await app.processes.control("remind").counts()).running
    for first in range(waiting, timers, 1000):
        await _remind(app, min(1000, timers - first), datetime.now(UTC) + LATER)


async def _remind(app: Application, count: int, moment: datetime) -> None:
    receipt = await app.store.append([Reminded(reminder=str(uuid4()), at=moment) for _ in range(count)])
    await app.projections.wait(receipt, PATIENCE, ["remind"])


async def _fired(app: Application) -> int:
    return (await app.processes.control("remind").counts()).completed
