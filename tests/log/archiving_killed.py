"""Archives streams in processes that are killed, one step later each: `archiving_killed.py URL FOLDER ACTION STEPS`.

It prints a line for each: how it ended, and a digest of all that is read afterwards. The processes are forked, so that
they need not import.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from hashlib import blake2b
from typing import Any

from twofold import EventQuery, LogOptions, Options, RetentionRule, apply_retention
from twofold.engines.engine import open_event_store

STEPS = ("begin_archive", "write", "_read", "record_archive", "archive_payloads", "positions", "delete")


def options(folder: str) -> Options:
    return Options(log=LogOptions(archive=folder, parquet_rows=4, removed_at_once=2))


class Killed:
    """Ends the process right before one of the steps of an archiving."""

    def __init__(self, at: int) -> None:
        self._left = at

    def count(self) -> None:
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, step: Callable[..., Any]) -> Callable[..., Any]:
        async def awaited(*arguments: Any, **named: Any) -> Any:
            self.count()
            return await step(*arguments, **named)

        def called(*arguments: Any, **named: Any) -> Any:
            self.count()
            return step(*arguments, **named)

        return awaited if asyncio.iscoroutinefunction(step) else called


async def apply(url: str, folder: str, at: int, action: Any) -> None:
    """Apply a rule, and be killed at a step; at 0, at none."""
    async with open_event_store(url, options=options(folder)) as store:
        log: Any = store.log
        killed = Killed(at)
        for name in STEPS:
            place = log.archive if hasattr(log.archive, name) else log
            setattr(place, name, killed.around(getattr(place, name)))
        rule = RetentionRule(name="old", action=action, stream_type="Account", older_than=timedelta())
        await apply_retention(store, [rule], by="ann")


async def digest(url: str, folder: str) -> None:
    """Print a digest of all events."""
    async with open_event_store(url, options=options(folder)) as store:
        print(blake2b(str(await store.log.read(EventQuery.all(), limit=99)).encode()).hexdigest(), flush=True)


def forked(work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Do work in a process of its own, and return how that ended."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        asyncio.run(work())
        os._exit(0)
    finally:
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    url, folder, action, *steps = sys.argv[1:]
    for at in map(int, steps):
        ended = forked(partial(apply, url, folder, at, action))
        print(ended, flush=True, end=" ")
        forked(partial(digest, url, folder))
