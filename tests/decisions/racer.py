"""One process of a race: `python -m tests.decisions.racer URL ROUNDS [careless]` subscribes a student to each course.

It waits for a line before it begins, and prints to which courses its students were admitted. A careless one only looks
at what it decides on: its appends do not depend on that.
"""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial
from typing import TypeVar

from decisions import courses
from twofold import AppendCondition, Application, Decision, DecisionModel, EventStore

S = TypeVar("S")


async def race(url: str, rounds: int, *, careless: bool) -> None:
    """Subscribe to one course after the other."""
    app = Application(url, synchronize=False)
    courses.wire(app)
    if careless:
        app.store.decide = partial(_look, app.store)  # type: ignore[method-assign]
    async with app:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for n in range(rounds):
            try:
                await app.commands.dispatch(courses.Subscribe(student=f"{os.getpid()}-{n}", course=f"c{n}"))
            except courses.CourseError:
                continue
            print(n, flush=True)


async def _look(store: EventStore, model: DecisionModel[S]) -> Decision[S]:
    return Decision(await store.look(model), AppendCondition(model.query))


if __name__ == "__main__":
    asyncio.run(race(sys.argv[1], int(sys.argv[2]), careless="careless" in sys.argv))
