"""What changes while a page is open: measured once for all who look, and told to each of them."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from twofold.application import Application
from twofold.monitoring.status import ApplicationStatus

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


class Live:
    """Measures an application as long as there are pages that want it.

    Args:
        app: the application.
    """

    def __init__(self, app: Application) -> None:
        self._status = app.status
        self._sampled: ApplicationStatus | None = None
        self.samples: deque[Sample] = deque(maxlen=KEPT)

    async def look(self) -> ApplicationStatus:
        """Return where everything stands, as of at most a second ago; all who look at once share one look.

        Raises:
            StorageError: the log cannot be read.
        """
        found = await self._status.ask()
        if found is not self._sampled:
            self._sampled = found
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


def _sample(found: ApplicationStatus) -> Sample:
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
