"""What tests of telemetry have in common: a real SDK that keeps spans and figures in memory, for one test at a time.

A process has one provider for good, as OpenTelemetry will have it; so it is hidden between the tests that want it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Collector:
    """What was recorded."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader])

    def clear(self) -> None:
        self._exporter.clear()

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, in that order."""
        return list(self._exporter.get_finished_spans())

    def spans_of(self, name: str) -> list[ReadableSpan]:
        return [each for each in self.spans if each.name == name]

    def batches(self, name: str) -> list[ReadableSpan]:
        """Return the spans of batches that hold an event."""
        return [each for each in self.spans_of(name) if (each.attributes or {}).get("twofold.events")]

    def metrics(self) -> dict[str, list[Any]]:
        """Return the points of each figure, by its name."""
        data = self._reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@cache
def _collector() -> Collector:
    collector = Collector()
    trace.set_tracer_provider(collector.tracers)
    metrics.set_meter_provider(collector.meters)
    return collector


@contextmanager
def collected() -> Iterator[Collector]:
    """Let an SDK collect spans and figures within the block."""
    collector = _collector()
    collector.clear()
    _show(collector.tracers, collector.meters)
    try:
        yield collector
    finally:
        _show(None, None)


def _show(tracers: TracerProvider | None, meters: MeterProvider | None) -> None:
    trace._TRACER_PROVIDER = tracers
    metrics._internal._METER_PROVIDER = meters
