"""Processes race for the seats of a thousand courses: each course has exactly as many students as seats."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.synchronizing import PATIENCE

from decisions import courses
from twofold import Application, EventQuery

ROOT, SEATS = Path(__file__).parents[2], 3


async def race(url: str, processes: int, rounds: int, *how: str) -> tuple[Counter[int], Counter[int]]:
    """Return how many students each course admitted, by what the processes were told, and by what is stored."""
    app = Application(url, synchronize=False)
    courses.wire(app)
    async with app:
        for n in range(rounds):
            await app.commands.dispatch(courses.DefineCourse(course=f"c{n}", capacity=SEATS))
        told = Counter(run(url, processes, rounds, *how))
        subscribed = EventQuery.of(courses.StudentSubscribed)
        stored = Counter([int(each.event.course[1:]) async for each in app.store.read(subscribed)])
    return told, stored


def run(url: str, processes: int, rounds: int, *how: str) -> list[int]:
    command = [sys.executable, "-m", "tests.decisions.racer", url, str(rounds), *how]
    python = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'examples'}"}
    with ExitStack() as stack:
        racers = [
            stack.enter_context(
                subprocess.Popen(
                    command,
                    env=python,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(processes)
        ]
        for racer in racers:
            assert racer.stdout
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin
            racer.stdin.write("go\n")
            racer.stdin.flush()
        admitted: list[int] = []
        for racer in racers:
            out, err = racer.communicate(timeout=PATIENCE + rounds)
            assert racer.returncode == 0, err
            admitted += map(int, out.split())
    return admitted


@pytest.mark.parametrize(
    ("processes", "rounds"), [(4, 40), pytest.param(16, 1000, marks=pytest.mark.soak)], ids=["short", "long"]
)
async def test_exactly_the_allowed_number_wins(url: str, processes: int, rounds: int) -> None:
    told, stored = await race(url, processes, rounds)
    assert told == stored == Counter(dict.fromkeys(range(rounds), SEATS))


async def test_the_race_finds_a_handler_that_does_not_depend_on_its_decision(url: str) -> None:
    told, stored = await race(url, 4, 40, "careless")
    assert told == stored
    assert max(stored.values()) > SEATS
