"""What one request costs, and the memory of the process, stay the same as the log grows; see the benchmark `growth`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from bench.benchmarks import growing_time
from bench.contenders import OURS, Contender, Entry, started

REQUESTS = ("append", "decide", "read", "get", "page", "start")
FACTOR = 1.5
"""By which what a long log costs may differ from what a short one does."""
SHORT, LONG = (1_000, 10_000), (100_000, 5_000_000)


@pytest.mark.parametrize(
    ("sizes", "times", "flat"),
    [
        pytest.param(SHORT, 5, ("memory",), id="short"),  # durations of a busy machine say nothing
        pytest.param(LONG, 200, (*REQUESTS, "memory"), id="long", marks=pytest.mark.soak),
    ],
)
def test_a_long_log_costs_no_more_than_a_short_one(
    url: str, sizes: tuple[int, int], times: int, flat: tuple[str, ...]
) -> None:
    entry = Entry(OURS, "bench.workers.twofold_itself", Path(sys.executable), lambda: url)
    with started([entry]) as [contender]:
        small, large = (measured(contender, size, times) for size in sizes)
    assert [what for what in flat if large[what] > FACTOR * small[what]] == [], (small, large)
    assert all(large.values())


def measured(contender: Contender, size: int, times: int) -> dict[str, float]:
    """Bring the log to a length, and return the milliseconds of each request, and the megabytes of the process."""
    assert contender.ask("grow", events=size, patience=growing_time(size)) is not None
    return {what: contender.ask("growth", what=what, times=times) or 0.0 for what in (*REQUESTS, "memory")}
