"""A task that appends in a loop does not keep the event loop for itself."""

from __future__ import annotations

import asyncio

from tests.accounts import Opened

from twofold import ANY, EventStore
from twofold.engines.memory import MemoryEventLog
from twofold.engines.memory.event_log import PAUSE_EVERY


async def test_other_tasks_run_while_one_appends_in_a_loop() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with EventStore(MemoryEventLog()) as store:
        counting = asyncio.create_task(count())
        for _ in range(4 * PAUSE_EVERY):
            await store.append_events("Account-a", "Account", [Opened(account="a")], expected_version=ANY)
        counting.cancel()
    assert turns >= 4
