"""However many rows are read at once, none comes otherwise than it was stored, whatever it holds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from twofold.engines.postgres import PostgresDatabase, PostgresEventLog
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import is_intact
from twofold.testing.samples import append_of, new_event

EVERYTHING = EventQuery.all()


@pytest_asyncio.fixture
async def log(url: str) -> AsyncIterator[PostgresEventLog]:
    log = PostgresEventLog(PostgresDatabase(url))
    await log.open()
    yield log
    await log.close()


@pytest.mark.parametrize("stream_id", ["Note-1", "Note-\x1f", "\x1f-\x1f", "Note \\x00'"])
@pytest.mark.parametrize("metadata", [b"{}", b'{\n "user": "ann"\n}'], ids=["compact", "with line breaks"])
async def test_many_rows_are_those_that_come_one_by_one(log: PostgresEventLog, stream_id: str, metadata: bytes) -> None:
    events = [new_event(stream_id, f"t{n}", text=f"line\nbreak \x1f {n}", metadata=metadata) for n in range(200)]
    await log.append(append_of(*events))
    one_by_one = [(await log.read(EVERYTHING, after=n, limit=1))[0] for n in range(200)]
    assert all(map(is_intact, one_by_one))
    assert list(await log.read(EVERYTHING, limit=1000)) == one_by_one
    assert list(await log.read(EVERYTHING, limit=1000, backwards=True)) == one_by_one[::-1]
    assert list(await log.read_stream(stream_id, after=10, limit=1000)) == one_by_one[10:]
    assert list(await log.read(EventQuery.of(tags=["topic:t1"]), limit=1000)) == one_by_one[1:2]


async def test_no_rows_are_no_rows(log: PostgresEventLog) -> None:
    assert list(await log.read(EVERYTHING, limit=1000)) == []
    assert list(await log.read_stream("Note-1", limit=1000)) == []
