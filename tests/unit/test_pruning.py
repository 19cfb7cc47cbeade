"""Passes that remove what has become old."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from twofold import pruning
from twofold.options import Backoff
from twofold.pruning import make_passes
from twofold.tasks import end


class AtFirst:
    """Chance by which the first rest is over at once, and any later one would last."""

    def __init__(self) -> None:
        self._asked = 0

    def random(self) -> float:
        self._asked += 1
        return float(self._asked > 1)


async def test_a_pass_that_failed_is_made_again_after_a_pause_and_not_after_another_rest(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pruning, "JITTER", AtFirst())
    outcomes: Iterator[OSError | int] = iter([OSError("cut off"), 3])
    is_made = asyncio.Event()

    async def make_pass() -> int:
        if isinstance(outcome := next(outcomes), OSError):
            raise outcome
        is_made.set()
        return outcome

    passes = make_passes(make_pass, 3600.0, Backoff(first=0.001, last=0.001), what="old rows", off="Options(off)")
    task = asyncio.create_task(passes)
    await asyncio.wait_for(is_made.wait(), 10)
    await end(task)
    assert "the removal of old rows failed" in caplog.text
