"""Prometheus: an address under which it gets the figures of an application.

    api.mount("/metrics", metrics(app))

1. A scrape asks for the status of the log, the read models and the processes once, and shares it with what else asks
   within a second: probes, the dashboard, another scrape.
2. These gauges are read from the databases: every process that is scraped tells the same.
3. The counters are of the process that answers; of all its siblings, too, if `PROMETHEUS_MULTIPROC_DIR` names a folder
   in which they keep them.

`prometheus-client` writes the text, compressed and as OpenMetrics if the scrape asks for that.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping, Sequence
from functools import cache
from itertools import chain
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, make_asgi_app
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from twofold.application import Application
from twofold.arguments import check_instance, check_number
from twofold.monitoring.figures import FIGURES, SECONDS
from twofold.monitoring.status import ApplicationStatus, ask_within
from twofold.telemetry import COUNTED, tallies, tell_counts

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable of the environment that tells `prometheus-client` where several processes keep their counters."""

PREFIX = "twofold_"


def metrics(app: Application, *, registry: CollectorRegistry = REGISTRY, max_wait: float = 5.0) -> AsgiApp:
    """Return what answers the scrapes of Prometheus, to be mounted in any ASGI application.

    It tells `FIGURES` and `COUNTED`, on behalf of all tenants, and what the program itself measures with
    `prometheus-client`. Where the databases do not answer, `twofold_up` is 0, and the counters are told all the same.

    Args:
        app: the application; it must be started.
        registry: where the metrics of the program's own are; by default where `prometheus-client` keeps them. If
            several processes share a folder, they are in that.
        max_wait: seconds in which the databases must answer. Raised beyond the `scrape_timeout` of Prometheus, it gets
            nothing when they do not; lowered, busy ones are taken for absent.

    Raises:
        TypeError: an argument is of another type.
        ValueError: `PROMETHEUS_MULTIPROC_DIR` names no folder.
    """
    check_instance("app", app, Application)
    check_instance("registry", registry, CollectorRegistry)
    check_number("max_wait", max_wait)
    return _Endpoint(app, registry, max_wait)


class _Endpoint:
    """Answers scrapes. An instance, and no function: Starlette takes a function of a route for something else."""

    def __init__(self, app: Application, registry: CollectorRegistry, max_wait: float) -> None:
        self._app = app
        self._registry = registry
        self._max_wait = max_wait
        self._is_shared = FOLDER in os.environ
        if self._is_shared:
            MultiProcessCollector(None)  # type: ignore[no-untyped-call]  # refuses what is no folder
            _keep_counts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = await ask_within(self._app.status, self._max_wait, "a scrape") if scope["type"] == "http" else None
        counted = _counters_of_all() if self._is_shared else chain(_counters(), _others(self._registry))
        asked = CollectorRegistry()
        asked.register(_Told([*_gauges(found), *counted]))
        await make_asgi_app(asked)(scope, receive, send)


def name_of(name: str, unit: str = "") -> str:
    """Return what OpenTelemetry's exporters call a metric in Prometheus."""
    return name.replace(".", "_") + ("_seconds" if unit == SECONDS else "")


class _Told(Collector):
    """What a scrape is told; it has names, for one that asks for a part."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Sequence[Metric]:
        return self._families

    describe = collect


def _gauges(found: ApplicationStatus | None) -> Iterator[Metric]:
    for figure in FIGURES:
        family = GaugeMetricFamily(name_of(figure.name, figure.unit), figure.about, labels=figure.labels)
        for labels, value in sorted(figure.points(found)):
            family.add_metric(labels, value)
        yield family


def _counters() -> Iterator[Metric]:
    """Yield what this process has counted."""
    counts = tallies()
    for what, about in COUNTED.items():
        yield CounterMetricFamily(_counter(what), about, value=getattr(counts, what))


def _others(registry: CollectorRegistry) -> Iterator[Metric]:
    """Yield what the program measures by itself, without what an exporter of OpenTelemetry puts there of Twofold's."""
    return (family for family in registry.collect() if not family.name.startswith(PREFIX))


def _counters_of_all() -> Iterable[Metric]:
    found: Iterable[Metric] = MultiProcessCollector(None).collect()  # type: ignore[no-untyped-call]
    return found


@cache
def _keep_counts() -> None:
    """Count from now on in the folder that the processes share, too, once in a process."""
    counters = {what: Counter(_counter(what), about, registry=None) for what, about in COUNTED.items()}
    tell_counts(lambda what, number: counters[what].inc(number))


def _counter(what: str) -> str:
    return f"{PREFIX}{what}"
