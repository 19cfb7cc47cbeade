"""The table of the metrics in the reference, made of the tables in the code.

`python -m tests.docs.metrics` writes `docs/reference/telemetry.md`, which a test compares with the code.
"""

from __future__ import annotations

from pathlib import Path

from twofold.monitoring.figures import FIGURES
from twofold.prometheus import name_of
from twofold.telemetry import COUNTED

FILE = Path(__file__).parents[2] / "docs/reference/telemetry.md"
HEAD = """# Telemetry

[Observe an application](../how-to/observe.md) shows all of this at work.

## Gauges

Read from the databases: every process that is asked tells the same. With OpenTelemetry, the labels are called
`twofold.projection`, `twofold.process` and `twofold.state`. Reactions, and the feeds of processes, are told as
projections, too.

| Prometheus | OpenTelemetry | labels | tells |
|---|---|---|---|
"""
COUNTERS = """
## Counters

Of the process that is asked since it began, or of all that share `PROMETHEUS_MULTIPROC_DIR`.

| Prometheus | OpenTelemetry | tells |
|---|---|---|
"""
TAIL = """
## Durations

Histograms in seconds, of OpenTelemetry alone, with `error.type` where a call failed:

| OpenTelemetry | attribute | tells |
|---|---|---|
| `twofold.message.duration` | `twofold.message` | how long a command or a query took |
| `twofold.append.duration` | | how long an append took until it was stored or refused |
| `twofold.projection.batch.duration` | `twofold.projection` | how long a batch of a read model or reaction took |

The counter `twofold.snapshots` tells by `twofold.snapshots.outcome` what came of stored
[snapshots](../explanation/snapshots.md).

## Spans

A span has these attributes, with `twofold.` before each:

| span | of | below | attributes |
|---|---|---|---|
| `handle PlaceOrder` | a command or query | the request, or a step | `message`, `position`, `repeated` |
| `append` | an append | the command | `events`, `position`, `outcome` |
| `project order_views` | a batch of events | what appended them | `projection`, `events`, `position` |
| `step fulfil_order` | an input of a process | what the input follows from | `process` |

::: twofold.telemetry

::: twofold.prometheus

::: twofold.monitoring.figures

::: twofold.monitoring.status
"""


def page() -> str:
    """Return the page."""
    gauges = "".join(
        f"| `{name_of(each.name, each.unit)}` | `{each.name}` | {', '.join(each.labels)} | {each.about} |\n"
        for each in FIGURES
    )
    counters = "".join(
        f"| `twofold_{what}_total` | `twofold.{what.replace('_', '.')}` | {about} |\n"
        for what, about in COUNTED.items()
    )
    return HEAD + gauges + COUNTERS + counters + TAIL


if __name__ == "__main__":
    FILE.write_text(page(), "utf-8")
