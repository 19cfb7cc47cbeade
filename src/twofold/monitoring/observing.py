"""OpenTelemetry's gauges: the figures of an application, looked up in the background while metrics are collected.

1. An application that starts while a provider of metrics is set begins to look at its status every few seconds.
2. A collection, in whichever thread, reads what the last look has found, and waits for no database.
3. A look that fails leaves of the gauges only `twofold.up`, as 0, until the next one that does not.

Without a provider there is no task and no gauge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import cache

from opentelemetry.metrics import CallbackOptions, Observation, get_meter

from twofold.monitoring.figures import FIGURES, Figure
from twofold.monitoring.status import ApplicationStatus, SharedStatus
from twofold.options import Backoff, MonitoringOptions
from twofold.tasks import Supervisor, end
from twofold.telemetry import is_measured

_observers: list[StatusObserver] = []
"""Of the applications that run in this process and are measured."""


class StatusObserver:
    """Keeps what the gauges of one application tell.

    Args:
        status: where it stands.
        options: how often to look.
    """

    def __init__(self, status: SharedStatus, options: MonitoringOptions) -> None:
        self.found: ApplicationStatus | None = None
        """What the last look has found; None if it failed."""
        self._status = status
        self._every = options.look_every
        backoff = Backoff(first=min(1.0, self._every), last=self._every)
        self._supervisor = Supervisor("the look for metrics", backoff)
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Look every few seconds, if metrics are collected, until `end`."""
        if is_measured():
            _make_gauges()
            _observers.append(self)
            self._task = asyncio.create_task(self._supervisor.run(self._look_for_ever), name="twofold-metrics")

    async def end(self) -> None:
        """End what `begin` began; may be repeated."""
        task, self._task = self._task, None
        if task is not None:
            _observers.remove(self)
            await end(task)

    async def _look_for_ever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._every):
                    self.found = await self._status.ask()
            except BaseException:
                self.found = None
                raise
            self._supervisor.went_well()
            await asyncio.sleep(self._every)


@cache
def _make_gauges() -> None:
    """Make a gauge of each figure, once in a process: OpenTelemetry knows an instrument by its name."""
    meter = get_meter("twofold")
    for figure in FIGURES:
        meter.create_observable_gauge(figure.name, [_observe(figure)], figure.unit, figure.about)


def _observe(figure: Figure) -> Callable[[CallbackOptions], Iterator[Observation]]:
    names = [f"twofold.{label}" for label in figure.labels]

    def observe(_: CallbackOptions) -> Iterator[Observation]:
        for observer in tuple(_observers):
            for values, value in figure.points(observer.found):
                yield Observation(value, dict(zip(names, values, strict=True)))

    return observe
