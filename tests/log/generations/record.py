"""Records what each generation writes: `python -m tests.log.generations.record`. What is recorded is never changed.

A generation that comes later is added to the end; what stands there was written by the code of its time.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import ModuleType

from tests.log.generations import first, fourth, second, third, today

from twofold import EventStore, export_log, open_event_store

GENERATIONS: tuple[ModuleType, ...] = (first, second, third, fourth, today)
RECORDED = Path(__file__).parent / "recorded"


async def main() -> None:
    """Write a log by each generation, and one by all of them, one after the other."""
    async with open_event_store("memory://") as together:
        for number, generation in enumerate(GENERATIONS, 1):
            await generation.write(EventStore(together.log), f"g{number}")
            async with open_event_store("memory://") as alone:
                await generation.write(alone, f"g{number}")
                await _export(alone, RECORDED / f"{number}.jsonl")
        await _export(together, RECORDED / "all.jsonl")


async def _export(store: EventStore, path: Path) -> None:
    if not path.exists():
        await export_log(store, path)


if __name__ == "__main__":
    asyncio.run(main())
