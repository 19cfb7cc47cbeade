"""Slices of work: each item once, in order, and the event loop gets its turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from twofold.options import FoldOptions
from twofold.slices import Slices


@pytest.mark.parametrize("count", [0, 1, 2, 5, 6, 20, 21, 22, 85, 1000, 5000])
@pytest.mark.parametrize("calls", [1, 3])
async def test_each_item_is_worked_on_once_and_in_order(count: int, calls: int) -> None:
    parts: list[int] = []

    def double(items: Sequence[int]) -> list[int]:
        parts.append(len(items))
        return [2 * item for item in items]

    slices = Slices(double)
    for _ in range(calls):
        assert await slices.of(range(count)) == [2 * n for n in range(count)]
    assert sum(parts) == calls * count


async def test_quick_work_is_done_in_one_go_before_long() -> None:
    parts: list[int] = []

    def note(items: Sequence[int]) -> list[int]:
        parts.append(len(items))
        return []

    slices = Slices(note)
    for _ in range(8):
        await slices.of(range(1000))
    assert parts[-3:] == [1000] * 3


async def test_slow_work_is_done_in_small_slices_from_the_first_on() -> None:
    parts: list[int] = []

    def work(items: Sequence[int]) -> list[int]:
        parts.append(len(items))
        time.sleep(0.8 * FoldOptions().slice * len(items))
        return []

    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(other())
    await Slices(work).of(range(20))
    task.cancel()
    assert parts == [1] * 20
    assert turns >= 20


async def test_what_the_work_raises_comes_through() -> None:
    def fail(items: Sequence[int]) -> list[int]:
        if 7 in items:
            raise ValueError("seven")
        return list(items)

    with pytest.raises(ValueError, match="seven"):
        await Slices(fail).of(range(20))
