"""A real engine behind a proxy that fails once, at a certain call: before it, or between it and its answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from traceback import StackSummary, walk_stack
from typing import Any

import twofold

IN_TWOFOLD = str(Path(twofold.__file__).parent)
"""The folder of the code whose calls are told when one of them failed."""


class Fault:
    """Counts the points at which a call may fail, and raises at the given one."""

    def __init__(self, at: int, error: Callable[[], BaseException]) -> None:
        self._at = at
        self._error = error
        self.points = 0
        self._struck = "no call"

    def __str__(self) -> str:
        return f"{self._error()!r} at point {self._at}: {self._struck}"

    @property
    def has_struck(self) -> bool:
        return self.points >= self._at

    def point(self) -> None:
        """Fail here, if this is the point."""
        self.points += 1
        if self.points == self._at:
            self._struck = _calls()
            raise self._error()


def _calls() -> str:
    """Return the calls of our own code that are under way here, the outermost one first."""
    frames = StackSummary.extract(walk_stack(None), lookup_lines=False)
    return " > ".join(f"{each.name}:{each.lineno}" for each in reversed(frames) if IN_TWOFOLD in each.filename)


class Failing:
    """Passes everything on; each method that is awaited has a point before and one after it."""

    def __init__(self, behind: Any, fault: Fault, awaited: tuple[str, ...]) -> None:
        self._behind = behind
        self._fault = fault
        self._awaited = awaited

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._behind, name)
        if name not in self._awaited:
            return found

        async def call(*arguments: Any, **options: Any) -> Any:
            self._fault.point()
            answer = await found(*arguments, **options)
            self._fault.point()
            return answer

        return call


class FailingReadDatabase(Failing):
    """A read database that fails once."""

    def __init__(self, behind: Any, fault: Fault) -> None:
        super().__init__(behind, fault, ("query", "load", "commit", "select"))

    @asynccontextmanager
    async def transaction(self, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        self._fault.point()
        async with self._behind.transaction(*arguments, **options) as transaction:
            yield Failing(transaction, self._fault, ("run", "lock", "call"))
            self._fault.point()
        self._fault.point()


def failing_log(behind: Any, fault: Fault) -> Any:
    """Return a log that fails once."""
    return Failing(behind, fault, ("read", "read_stream", "read_short_stream", "scan", "head", "wait", "mark"))
