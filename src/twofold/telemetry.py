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
_snapshots = metrics.get_meter("twofold").create_counter(
    "twofold.snapshots", unit="{snapshot}", description="Stored snapshots by what came of them"
)


def _is_traced() -> bool:
    """Return whether an SDK is configured; without one, a span costs a query a tenth of its time, and goes nowhere."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


async def trace_message(message: Any, call_next: Call) -> Any:
    """Put a command or a query in a span; a middleware, outermost in every `Application`. Errors are recorded in it."""
    if not _is_traced():
        return await call_next(message)
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
