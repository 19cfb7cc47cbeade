"""Of a condition over a long range, the long part is looked through before the append takes the lock."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from twofold.engines.postgres.database import PostgresDatabase
from twofold.engines.postgres.log.event_log import PostgresEventLog
from twofold.options import PostgresOptions
from twofold.ports.event_log import Append, Rejected
from twofold.testing.event_log_suite.endings import tombstone
from twofold.testing.samples import append_of, new_event, span, topic


@pytest_asyncio.fixture
async def log(url: str) -> AsyncIterator[PostgresEventLog]:
    made = PostgresEventLog(PostgresDatabase(url, options=PostgresOptions(narrow_condition=2)))
    await made.open()
    try:
        await made.append(append_of(new_event("Note-1", "x")))
        yield made
    finally:
        await made.close()


def depending(on: str, after: int) -> Append:
    return append_of(new_event("", "y"), fail_if=topic(on), after=after)


async def test_a_tombstone_in_the_long_part_refuses_the_append(log: PostgresEventLog) -> None:
    await log.append(append_of(tombstone("Note-1")))
    await log.append(append_of(*[new_event("", "z") for _ in range(5)]))
    refused = await log.append(depending("w", 1))
    assert isinstance(refused, Rejected)
    assert (refused.conflicts, await log.head()) == ((), 7)
    assert span(await log.append(depending("w", 2))) == (8, 8)


async def test_an_event_in_the_long_part_refuses_the_append(log: PostgresEventLog) -> None:
    await log.append(append_of(*[new_event("", "z") for _ in range(5)]))
    refused = await log.append(depending("x", 0))
    assert isinstance(refused, Rejected)
    assert [row.position for row in refused.conflicts] == [1]
    assert span(await log.append(depending("x", 1))) == (7, 7)
