"""A repeat of a command costs one round trip, whichever process has sent the command first."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from twofold.engines.postgres import PostgresDatabase, PostgresEventLog
from twofold.engines.postgres.log.reader import Reader
from twofold.engines.postgres.wire.connection import Wire
from twofold.errors import CommandReusedError, CorruptCommandError
from twofold.messages.event_query import EventQuery
from twofold.ports.event_log import Appended
from twofold.testing.samples import append_of, new_command, new_event

EVERYTHING = EventQuery.all()


@pytest.fixture
def round_trips(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return how often the server is asked for an append, or for rows; each is asked as ever."""
    counts: Counter[str] = Counter()

    def count(kind: type, name: str) -> None:
        method = getattr(kind, name)

        async def counted(*arguments: Any, **named: Any) -> Any:
            counts[name] += 1
            return await method(*arguments, **named)

        monkeypatch.setattr(kind, name, counted)

    count(Wire, "call")
    count(Reader, "_select")
    count(Reader, "rows")
    return counts


async def test_the_append_of_a_repeat_is_the_only_round_trip(
    log: PostgresEventLog, url: str, round_trips: Counter[str]
) -> None:
    command = new_command()
    await log.append(append_of(new_event("Note-1"), new_event("Note-2"), command=command))
    rows = tuple(await log.read(EVERYTHING, limit=10))
    another = PostgresEventLog(PostgresDatabase(url))
    await another.open()
    for fails in ({}, {"expected": {"Note-1": 1}}, {"expected": {"Note-1": 0}}, {"fail_if": EVERYTHING}):
        round_trips.clear()
        repeat = await another.append(append_of(new_event("Note-1"), command=command, **fails))
        assert repeat == Appended(1, 2, repeated=True, result=command.result, version=1, rows=rows)
        assert round_trips == {"call": 1}
    await another.close()


async def test_a_repeat_of_a_damaged_record_harms_no_other_append_of_its_group(log: PostgresEventLog) -> None:
    command, reused = new_command(), new_command()
    for each in (command, reused):
        await log.append(append_of(new_event("Note-1"), command=each))
    async with log.transaction() as joined:
        await joined.connection.execute("SET LOCAL session_replication_role = replica")
        await joined.connection.execute(
            "UPDATE twofold_commands SET record_checksum = 7 WHERE command_id = encode(%s::bytea, 'hex')::uuid",
            [command.command_id],
        )
    group = [
        append_of(new_event("Note-2")),
        append_of(new_event("Note-1"), command=command),
        append_of(new_event("Note-1"), command=reused._replace(content_hash=b"?" * 32)),
        append_of(new_event("Note-3"), command=new_command()),
    ]
    first, damaged, other, last = await asyncio.gather(*map(log.append, group), return_exceptions=True)
    assert isinstance(damaged, CorruptCommandError)
    assert isinstance(other, CommandReusedError)
    assert (first, last) == (Appended(3, 3, version=1), Appended(4, 4, result=new_command().result, version=1))
