"""How long to wait before the next try."""

from __future__ import annotations

import random
from collections.abc import Iterator

FIRST, LAST = 0.02, 1.0


def pauses() -> Iterator[float]:
    """Yield growing seconds with jitter, so that many processes do not come back at one moment."""
    pause = FIRST
    while True:
        yield pause * random.uniform(0.5, 1.5)  # noqa: S311
        pause = min(pause * 2, LAST)
