"""How long to wait before the next try."""

from __future__ import annotations

from collections.abc import Iterator

from twofold.options import PostgresOptions
from twofold.tasks import JITTER


def pauses(options: PostgresOptions) -> Iterator[float]:
    """Yield growing seconds with jitter, so that many processes do not come back at one moment."""
    pause = options.first_pause
    while True:
        yield pause * JITTER.uniform(0.5, 1.5)
        pause = min(pause * 2, options.last_pause)
