"""Kill -9 it, restart it: nothing lost. `python examples/kill.py 20` kills a writing program twenty times.

1. A child process records events and writes the id of each to its output once the append is acknowledged.
2. The parent kills it with SIGKILL in the middle of that, and starts the next one on the same database.
3. Then it opens the database and compares: what was acknowledged, what is stored, what the read model counts.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated
from uuid import uuid4

from msgspec import Struct

from twofold import Application, Key, Projection, ReadModel, on

ACKNOWLEDGED = 300
"""How many acknowledgements the parent reads before it kills."""
WRITERS = 8


class Recorded(Struct, frozen=True):
    """A fact."""

    id: str
    of: str = "all"


class Number(Struct, frozen=True):
    """How many facts there are."""

    of: Annotated[str, Key()]
    facts: int


class Numbers(Projection[Number]):
    """Counts the facts."""

    name = "numbers"

    @on(Recorded)
    def recorded(self, row: Number | None, event: Recorded) -> Number:
        """Count one more."""
        return Number(event.of, row.facts + 1 if row else 1)


def build(url: str) -> tuple[Application, ReadModel[Number]]:
    """Return the application and its read model."""
    app = Application(url)
    return app, app.projections.add(Numbers())


async def write(url: str) -> None:
    """Record events until the process is killed, and say of each that it is stored."""
    app, _ = build(url)

    async def record() -> None:
        while True:
            fact = Recorded(uuid4().hex)
            await app.store.append([fact])
            print(fact.id, flush=True)  # only now

    async with app:
        await asyncio.gather(*(record() for _ in range(WRITERS)))


def kill_a_writer(url: str) -> list[str]:
    """Start a writer, kill it in the middle of its work, and return what it had acknowledged."""
    command = [sys.executable, __file__, "write", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:  # noqa: S603 - itself
        assert writer.stdout is not None  # noqa: S101 - it is piped
        acknowledged = [writer.stdout.readline().strip() for _ in range(ACKNOWLEDGED)]
        writer.kill()  # SIGKILL: it cannot clean up
        last = writer.stdout.read().splitlines(keepends=True)
    return acknowledged + [line.strip() for line in last if line.endswith("\n")]


async def compare(url: str, acknowledged: list[str]) -> bool:
    """Print what became of what was acknowledged; return whether all is well."""
    app, numbers = build(url)
    async with app:
        stored = Counter([each.event.id async for each in app.store.read()])
        await app.projections.wait(await app.store.head(), timeout=60)
        counted = await numbers.get("all")
    lost = [each for each in acknowledged if each not in stored]
    twice = [each for each, number in stored.items() if number > 1]
    is_exact = counted is not None and counted.facts == stored.total()
    print(f"acknowledged: {len(acknowledged)}, lost: {len(lost)}, stored twice: {len(twice)}")
    print(f"the read model counts every stored event once: {is_exact}")
    return not lost and not twice and is_exact


def main(kills: int) -> int:
    """Kill, compare, and return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'facts.db'}"
        acknowledged = [each for _ in range(kills) for each in kill_a_writer(url)]
        print(f"killed {kills} times")
        return 0 if asyncio.run(compare(url, acknowledged)) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        asyncio.run(write(sys.argv[2]))
    else:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
