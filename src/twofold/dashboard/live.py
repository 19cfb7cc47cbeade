"""What changes while a page is open: measured once for all who look, and told to each of them."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from twofold.application import Application
from twofold.ports.turns import Turns
from twofold.processes.processes import ProcessStatus
from twofold.synchronizer.status import ProjectionStatus

EVERY = 2.0
"""Seconds between two measurements. Fewer: more load by lookers. More: a fault is seen later."""
KEPT = 450
"""Measurements that are kept: a quarter of an hour."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A measurement."""

    at: float
    """Seconds since 1970."""
    head: int
    """The position at which the log ends."""
    lag: float
    """Seconds by which the latest read model is late."""
    parked: int
    problems: int


@dataclass(frozen=True, kw_only=True)
class Found:
    """Where everything stands."""

    head: int
    projections: list[ProjectionStatus]
    processes: list[ProcessStatus]


class Live:
    """Measures an application as long as there are pages that want it.

    Args:
        app: the application.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._lock = Turns()
        self.samples: deque[Sample] = deque(maxlen=KEPT)
        self._found: tuple[float, Found] | None = None

    async def look(self) -> Found:
        """Return where everything stands, as of at most two seconds ago; all who look at once share one look.

        Raises:
            StorageError: the log cannot be read.
        """
        async with self._lock:
            if self._found is not None and time.monotonic() < self._found[0] + EVERY / 2:
                return self._found[1]
            app = self._app
            statuses = await app.projections.status()
            processes = list(await app.processes.status())
            found = Found(head=await app.store.head(), projections=list(statuses), processes=processes)
            self._found = time.monotonic(), found
            self.samples.append(_sample(found))
            return found

    async def follow(self, request: Request) -> Response:
        """Return what was measured since the browser has last heard of it, as server-sent events.

        The answer ends at once, and the browser asks again two seconds later: a connection that stays open would keep a
        server from ending, and proxies hold back what trickles.
        """
        await self.look()
        seen = _number(request.headers.get("last-event-id", ""))
        news = [_event(each) for each in self.samples if each.at > seen]
        return Response(
            f"retry: {EVERY * 1000:.0f}\n\n".encode() + b"".join(news), media_type="text/event-stream",
        )  # fmt: skip


def _sample(found: Found) -> Sample:
    names = {each.name for each in found.projections}  # the feed of a process tells of its instances
    return Sample(
        at=time.time(),
        head=found.head,
        lag=max((each.lag.total_seconds() for each in found.projections), default=0.0),
        parked=sum(each.parked for each in found.projections),
        problems=sum(len(each.problems) for each in found.projections)
        + sum(len(each.problems) for each in found.processes if each.name not in names),
    )


def _event(sample: Sample) -> bytes:
    return b"event: sample\nid: %r\ndata: %s\n\n" % (sample.at, msgspec.json.encode(sample))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
