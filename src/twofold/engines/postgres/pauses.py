"""How long to wait before the next try."""

from __future__ import annotations

from collections.abc import Iterator

from twofold.tasks import JITTER

FIRST, LAST = 0.02, 1.0


def pauses() -> Iterator[float]:
    """Yield growing seconds with jitter, so that many processes do not come back at one moment."""
    pause = FIRST
    while True:
        yield pause * JITTER.uniform(0.5, 1.5)
        pause = min(pause * 2, LAST)
