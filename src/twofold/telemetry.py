"""Spans for OpenTelemetry: one per command, query, and batch of a projection, never one per event; and counters.

Without an SDK, which is the application's to install and configure, they cost next to nothing and go nowhere.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.trace import Span

from twofold.messages.receipt import Receipt
from twofold.middleware import Call

MESSAGE = "twofold.message"
PROJECTION = "twofold.projections.projection"
EVENTS = "twofold.events"
POSITION = "twofold.position"
REPEATED = "twofold.repeated"

_tracer = trace.get_tracer("twofold")
trace.get_tracer_provider()  # if the environment names a provider, it is set now
_snapshots = metrics.get_meter("twofold").create_counter(
    "twofold.snapshots", unit="{snapshot}", description="Stored snapshots by what came of them"
)


def _is_traced() -> bool:
    """Return whether an SDK is configured; without one, a span costs a query a tenth of its time, and goes nowhere."""
    # The function that returns the provider looks into the environment each time, as long as none is set.
    is_set = getattr(trace, "_TRACER_PROVIDER", trace) is not None
    return is_set and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def traced(call: Call) -> Call:
    """Return a call that puts its message in a span while an SDK is configured; it stands around all middleware."""
    return lambda message: trace_message(message, call) if _is_traced() else call(message)


async def trace_message(message: Any, call_next: Call) -> Any:
    """Put a command or a query in a span; a middleware. Errors are recorded in it."""
    name = type(message).__name__
    with _tracer.start_as_current_span(f"handle {name}", attributes={MESSAGE: name}) as span:
        answer = await call_next(message)
        if isinstance(answer, Receipt) and not answer.is_staged:
            span.set_attribute(POSITION, answer.position)
            span.set_attribute(REPEATED, answer.repeated)
        return answer


def trace_batch(projection: str, events: int, position: int) -> AbstractContextManager[Span]:
    """Return the span around the folding and writing of one batch up to a position."""
    attributes: dict[str, str | int] = {PROJECTION: projection, EVENTS: events, POSITION: position}
    return _tracer.start_as_current_span(f"project {projection}", attributes=attributes)


def count_snapshot(outcome: str) -> None:
    """Count what came of a stored snapshot: `used`, `saved`, or why it was refused."""
    _snapshots.add(1, {"twofold.snapshots.outcome": outcome})
