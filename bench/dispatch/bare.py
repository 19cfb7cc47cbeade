"""The floor: the handler is called, without a bus and without middleware."""

from __future__ import annotations

from dataclasses import dataclass

from bench.dispatch.calls import main, ready


@dataclass(frozen=True)
class Add:
    number: int


async def add(command: Add) -> int:
    return command.number + 1


if __name__ == "__main__":
    main(ready(lambda number: add(Add(number))))
