"""Spans and figures for OpenTelemetry: a span per command, query, append, batch and step of a process.

1. A span begins below that in which its code runs: a command's below the HTTP request's, an append's below that.
2. The metadata of each event that is appended carry the trace of the span that appends it, as `extra["traceparent"]`.
3. What follows from an event, in whichever process, continues that trace: a projection's batch, a process's step, the
   command that it sends, a reaction. A batch over events of several traces has its own, with links to them.

Without an SDK, which is the application's to install and configure, there are no spans, and metadata stay as they are.
What this process has done is counted all the same; see `tallies`. Where the log, the read models and the processes
stand is told by `twofold.monitoring.figures`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
from opentelemetry import context as contexts
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Histogram, Observation
from opentelemetry.trace import Link, Span, SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from twofold.messages.context import current_metadata
from twofold.messages.event import Metadata, RecordedEvent
from twofold.messages.receipt import Receipt
from twofold.middleware import Call

MESSAGE = "twofold.message"
PROJECTION = "twofold.projection"
PROCESS = "twofold.process"
EVENTS = "twofold.events"
POSITION = "twofold.position"
REPEATED = "twofold.repeated"
OUTCOME = "twofold.outcome"
MEASURED = (MESSAGE, PROJECTION)
"""Attributes of a span that its duration has, too: few, as each set of values is a series."""

TRACEPARENT = "traceparent"
"""Under which an event's `metadata.extra` holds the trace that appended it, in the form of W3C. stored."""
LOOKED_AT = 100
"""Events of a batch whose traces are looked at. More: larger batches are linked to all traces, and take longer."""

NAMED = ("correlation_id", "causation_id", "command_id", "tenant", "user")
"""What a record of the log tells of the metadata."""

T = TypeVar("T")

_W3C = TraceContextTextMapPropagator()
_tracer = trace.get_tracer("twofold")
trace.get_tracer_provider()  # if the environment names a provider, it is set now
_meter = metrics.get_meter("twofold")
_of_traces, _of_metrics = vars(trace), vars(getattr(metrics, "_internal", metrics))
"""Where OpenTelemetry keeps the providers, looked at with each message."""
_snapshots = _meter.create_counter(
    "twofold.snapshots", unit="{snapshot}", description="Stored snapshots by what came of them"
)
_messages = _meter.create_histogram("twofold.message.duration", "s", "Seconds that commands and queries took")
_appends = _meter.create_histogram("twofold.append.duration", "s", "Seconds until an append was stored or refused")
_batches = _meter.create_histogram("twofold.projection.batch.duration", "s", "Seconds that a batch took")


class Tallies(msgspec.Struct, frozen=True, kw_only=True):
    """What this process has done since it began; `COUNTED` says what each of them counts."""

    commands_done: int = 0
    commands_repeated: int = 0
    commands_refused: int = 0
    commands_failed: int = 0
    conflicts_retried: int = 0
    conflicts_lost: int = 0
    appends: int = 0
    events: int = 0
    errors: int = 0


COUNTED = {
    "commands_done": "Commands that took effect, or had nothing to do",
    "commands_repeated": "Commands that had taken effect before",
    "commands_refused": "Commands that raised an error, most often of the domain, and stored nothing",
    "commands_failed": "Commands that the database failed",
    "conflicts_retried": "Attempts of commands that were repeated, as another append came first",
    "conflicts_lost": "Commands that were given up, as other appends came first each time",
    "appends": "Appends that were stored, apart from those of processes' steps",
    "events": "Events of these appends",
    "errors": "Failures that held a projection, a reaction or a process up, and events that were parked",
}
"""What each field of `Tallies` counts."""

_counts = dict.fromkeys(COUNTED, 0)
_told: Callable[[str, int], None] | None = None
"""Is told of each count, besides."""


def tallies() -> Tallies:
    """Return what this process has done since it began; OpenTelemetry gets the same as counters."""
    return Tallies(**_counts)


def tell_counts(told: Callable[[str, int], None]) -> None:
    """Let something else be told of all that is counted, from what has been counted so far on; one thing alone."""
    global _told
    for what, number in _counts.items():
        told(what, number)
    _told = told


def count(what: str, number: int = 1) -> None:
    """Add to one of the `Tallies`."""
    _counts[what] += number
    if _told is not None:
        _told(what, number)


def count_append(events: int) -> None:
    """Count an append that was stored."""
    _counts["appends"] += 1
    _counts["events"] += events
    if _told is not None:
        _told("appends", 1)
        _told("events", events)


def count_snapshot(outcome: str) -> None:
    """Count what came of a stored snapshot: `used`, `saved`, or why it was refused."""
    _snapshots.add(1, {"twofold.snapshots.outcome": outcome})


class CorrelationFilter(logging.Filter):
    """Tells in each record of a log on whose behalf the code runs, and what caused it.

        handler.addFilter(CorrelationFilter())
        handler.setFormatter(logging.Formatter("%(levelname)s %(correlation_id)s %(user)s %(message)s"))

    A record gets the attributes `correlation_id`, `causation_id`, `command_id`, `tenant` and `user`, as texts; what is
    not known is empty, and what the record has already, by `extra=`, stays. Add it to handlers: the filter of a logger
    does not see the records of the loggers below it. Of a `QueueHandler`, it is that one which needs it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the attributes to a record, and let it through."""
        known = current_metadata()
        for name in NAMED:
            value = getattr(known, name)
            record.__dict__.setdefault(name, "" if value is None else str(value))
        return True


def is_measured() -> bool:
    """Return whether a provider of metrics is set."""
    return _of_metrics.get("_METER_PROVIDER") is not None


def is_observed() -> bool:
    """Return whether an SDK is configured; without one, a span costs a query a tenth of its time, and goes nowhere."""
    if _of_metrics.get("_METER_PROVIDER") is not None:  # as `is_measured`, without a call
        return True
    return _of_traces.get("_TRACER_PROVIDER", trace) is not None and _is_traced()  # nearly always None: no call


def _is_traced() -> bool:
    # The function that returns the provider looks into the environment each time, as long as none is set.
    is_set = _of_traces.get("_TRACER_PROVIDER", trace) is not None
    return is_set and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def traced(call: Call) -> Call:
    """Return a call that puts its message in a span while an SDK is configured; it stands around all middleware."""
    return lambda message: trace_message(message, call) if is_observed() else call(message)


async def trace_message(message: Any, call_next: Call) -> Any:
    """Put a command or a query in a span; a middleware. Errors are recorded in it."""
    name = type(message).__name__
    with _span(f"handle {name}", {MESSAGE: name}, _messages) as span:
        answer = await call_next(message)
        if isinstance(answer, Receipt) and not answer.is_staged:
            span.set_attribute(POSITION, answer.position)
            span.set_attribute(REPEATED, answer.repeated)
        return answer


async def trace_append(appending: Awaitable[T], events: int) -> T:
    """Put an append, which is awaited within it, in a span."""
    with _span("append", {EVENTS: events}, _appends) as span:
        outcome = await appending
        last, reason = getattr(outcome, "last", None), getattr(outcome, "reason", None)
        if last is not None:
            span.set_attribute(POSITION, last)
        span.set_attribute(OUTCOME, "stored" if reason is None else "conflict")
        return outcome


@contextmanager
def trace_batch(projection: str, events: Sequence[RecordedEvent[Any]], position: int) -> Iterator[None]:
    """Put the handling of one batch up to a position in a span, which continues the trace of its events.

    Events of several traces, and more than `LOOKED_AT`, give it a trace of its own, with links to theirs.
    """
    if not is_observed():
        yield
        return
    attributes: dict[str, str | int] = {PROJECTION: projection, EVENTS: len(events), POSITION: position}
    found = _traces(events) if _is_traced() else []
    is_one = len(events) <= LOOKED_AT and len({each.trace_id for each in found}) == 1
    parent = _below(found[0]) if is_one else Context()
    links = [Link(each) for each in (found[1:] if is_one else found)]
    with _span(f"project {projection}", attributes, _batches, parent, links):
        yield


@contextmanager
def trace_step(process: str, metadata: Metadata) -> Iterator[Metadata]:
    """Put a step of a process in a span, below that of its metadata; yield the metadata of what follows from it."""
    with _tracer.start_as_current_span(f"step {process}", context=_context_of(metadata), attributes={PROCESS: process}):
        yield with_trace(metadata)


@contextmanager
def continued(metadata: Metadata) -> Iterator[None]:
    """Let the spans within the block continue the trace of what was recorded with some metadata."""
    if not _is_traced():
        yield
        return
    token = contexts.attach(_context_of(metadata))
    try:
        yield
    finally:
        contexts.detach(token)


def with_trace(metadata: Metadata) -> Metadata:
    """Return metadata that carry the trace of the span in which this code runs; unchanged while there is none."""
    if _of_traces.get("_TRACER_PROVIDER", trace) is None or not _is_traced():
        return metadata
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    if not carrier:
        return metadata
    return msgspec.structs.replace(metadata, extra={**metadata.extra, TRACEPARENT: carrier[TRACEPARENT]})


@contextmanager
def _span(
    name: str,
    attributes: dict[str, str | int],
    duration: Histogram,
    parent: Context | None = None,
    links: Sequence[Link] = (),
) -> Iterator[Span]:
    """Measure a block, in a span; of its attributes the duration gets those of `MEASURED` alone."""
    began = time.perf_counter()
    error = ""
    try:
        with _tracer.start_as_current_span(name, context=parent, attributes=attributes, links=links) as span:
            yield span
    except BaseException as raised:
        error = type(raised).__name__
        raise
    finally:
        series = {key: value for key, value in attributes.items() if key in MEASURED}
        duration.record(time.perf_counter() - began, {**series, "error.type": error} if error else series)


def _traces(events: Sequence[RecordedEvent[Any]]) -> list[SpanContext]:
    """Return the spans that appended the events, each once."""
    found: dict[tuple[int, int], SpanContext] = {}
    for recorded in events[:LOOKED_AT]:
        each = trace.get_current_span(_context_of(recorded.metadata)).get_span_context()
        if each.is_valid:
            found.setdefault((each.trace_id, each.span_id), each)
    return list(found.values())


def _context_of(metadata: Metadata) -> Context:
    """Return the context of the span that recorded some metadata; an empty one if they tell of none."""
    given = metadata.extra.get(TRACEPARENT)
    return _W3C.extract({TRACEPARENT: given}, Context()) if given else Context()


def _below(span: SpanContext) -> Context:
    return trace.set_span_in_context(trace.NonRecordingSpan(span), Context())


def _observe(what: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: [Observation(_counts[what])]


for _what, _about in COUNTED.items():
    _meter.create_observable_counter(f"twofold.{_what.replace('_', '.')}", [_observe(_what)], "1", _about)
