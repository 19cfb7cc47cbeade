"""However many rows are read at once, none comes otherwise than it was stored, whatever it holds."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
import time
from collections.abc import Sequence

import pytest

from twofold import EventStore
from twofold.engines.postgres import PostgresDatabase, PostgresEventLog
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import StoredEvent, is_intact
from twofold.options import PostgresOptions
from twofold.testing.samples import Noted, append_of, new_event

EVERYTHING = EventQuery.all()
ROWS = 1500
"""Of 100 bytes: an answer that takes libpq many reads, and for which the buffers of the kernel have room."""
PATIENCE = 60.0
"""Seconds until the server has answered."""


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


class Asked(PostgresEventLog):
    """Remembers how many events it was asked for."""

    def __init__(self, database: PostgresDatabase) -> None:
        super().__init__(database)
        self.limits: list[int] = []

    async def read_stream(
        self, stream_id: str, *, after: int = 0, limit: int, without: Sequence[str] = ()
    ) -> Sequence[StoredEvent]:
        self.limits.append(limit)
        return await super().read_stream(stream_id, after=after, limit=limit, without=without)


async def test_a_long_stream_takes_few_round_trips_and_yet_begins_with_a_small_one(url: str) -> None:
    log = Asked(PostgresDatabase(url, options=PostgresOptions(chunk=600)))
    await log.open()
    try:
        await log.append(append_of(*(new_event("Note-1", text=str(n)) for n in range(1000))))
        store = EventStore(log)
        store.events.register(Noted)
        assert len([1 async for _ in store.read_stream("Note-1")]) == 1000
    finally:
        await log.close()
    assert log.limits == [100, 400, 600]


async def test_no_rows_are_no_rows(log: PostgresEventLog) -> None:
    assert list(await log.read(EVERYTHING, limit=1000)) == []
    assert list(await log.read_stream("Note-1", limit=1000)) == []


async def test_an_answer_that_is_there_is_read_without_a_turn_of_the_loop_for_each_part(url: str) -> None:
    assert await _turns_for_an_answer(url, read_turn=PATIENCE) <= 2
    assert await _turns_for_an_answer(url, read_turn=0.0) > 4


async def _turns_for_an_answer(url: str, read_turn: float) -> int:
    """Return how many turns the event loop takes while an answer is read that is there from the beginning."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    database = PostgresDatabase(url, options=PostgresOptions(read_turn=read_turn))
    await database.open()
    try:
        async with database.connection() as connection:
            question = asyncio.create_task(
                connection.execute(f"SELECT repeat('x', 99) FROM generate_series(1, {ROWS})")
            )
            await asyncio.sleep(0)  # it is sent
            _wait_for_the_answer(connection.fileno())
            counter = asyncio.create_task(take_turns())
            rows = await (await question).fetchall()
            counter.cancel()
            assert rows == [("x" * 99,)] * ROWS
    finally:
        await database.close()
    return turns


def _wait_for_the_answer(socket: int) -> None:
    """Keep the event loop from reading until the answer is there."""
    deadline = time.monotonic() + PATIENCE
    while struct.unpack("i", fcntl.ioctl(socket, termios.FIONREAD, b"\0" * 4))[0] < 100 * ROWS:
        assert time.monotonic() < deadline
        time.sleep(0.01)
