"""Many waits end at few moments, and none of them later than it may."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from twofold.queries.beats import Beats, Wait

PARTS = 4
PATIENCE = 0.2
"""Seconds of each wait."""


async def test_waits_that_begin_at_different_moments_share_timers_and_end_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, timers = asyncio.get_running_loop(), list[float]()
    call_at = loop.call_at

    def noted(moment: float, *arguments: Any, **options: Any) -> asyncio.TimerHandle:
        timers.append(moment)
        return call_at(moment, *arguments, **options)

    beats, latest, waits = Beats(PARTS), 0.0, list[Wait]()
    for _ in range(100):
        await asyncio.sleep(PATIENCE / 500)
        with monkeypatch.context() as patched:
            patched.setattr(loop, "call_at", noted)
            waits.append(loop.create_future())
            beats.add(waits[-1], PATIENCE)
        latest = loop.time() + PATIENCE
        assert loop.time() + PATIENCE * (1 - 1 / PARTS) - 0.01 < timers[-1] <= latest
    assert len(timers) <= (timers[-1] - timers[0]) / (PATIENCE / PARTS) + 1.5
    assert await asyncio.gather(*waits) == [None] * 100


async def test_a_wait_that_is_over_or_withdrawn_is_left_alone() -> None:
    loop, beats = asyncio.get_running_loop(), Beats(PARTS)
    told, withdrawn, waiting = loop.create_future(), loop.create_future(), loop.create_future()
    beats.add(told, PATIENCE)
    beats.add(withdrawn, PATIENCE).discard(withdrawn)
    beats.add(waiting, PATIENCE)
    told.set_result(7)
    assert (await waiting, await told, withdrawn.done()) == (None, 7, False)
