"""The lock comes first, and everything that is read after it is newer than it: positions follow commits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio
from psycopg.types.json import Json
from tests.engines.postgres.test_outcomes import backend_that_waits, opened

from twofold.engines.postgres import PostgresEventLog
from twofold.errors import LimitExceededError
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import NewEvent
from twofold.ports.event_log import Append, Appended, Rejected
from twofold.testing.samples import append_of, new_event, topic

INCOMPRESSIBLE = "".join(map(chr, range(256, 9000)))


@pytest_asyncio.fixture
async def log(url: str) -> AsyncIterator[PostgresEventLog]:
    async with opened(url) as log:
        yield log


async def append_as_another_host(connection: psycopg.AsyncConnection, event: NewEvent) -> int:
    """Append in an open transaction, which holds the lock until it ends."""
    row = await connection.execute(
        "SELECT new_position FROM twofold_append_one(%s, %s, %s, 1, encode(%s, 'hex')::uuid, %s, '{}', '[]', 0,"
        " ARRAY['topic:x'], NULL)",
        [event.stream_id, event.stream_type, event.type, event.event_id, Json({})],
    )
    [position] = await row.fetchone() or [0]
    return int(position)


@pytest.mark.parametrize(
    "late",
    [
        append_of(new_event("Note-1"), expected={"Note-1": 0}),
        append_of(new_event("Note-1"), new_event("Note-2"), expected={"Note-1": 0}),
        append_of(new_event("Note-2"), fail_if=topic("x")),
    ],
    ids=["one event", "batch", "condition"],
)
async def test_who_waited_for_the_lock_sees_what_its_holder_committed(
    log: PostgresEventLog, url: str, late: Append
) -> None:
    """Fails if the state of the log is read with a snapshot that was taken before the lock was granted."""
    async with await psycopg.AsyncConnection.connect(url) as holder:
        assert await append_as_another_host(holder, new_event("Note-1", "x")) == 1
        pending = asyncio.create_task(log.append(late))
        await backend_that_waits(url)
        await holder.commit()
    outcome = await pending
    assert isinstance(outcome, Rejected)
    assert [row.position for row in outcome.conflicts] == [1]


async def test_a_position_is_given_out_again_when_its_holder_rolls_back(log: PostgresEventLog, url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url) as holder:
        assert await append_as_another_host(holder, new_event("Note-1")) == 1
        pending = asyncio.create_task(log.append(append_of(new_event("Note-2"), expected={"Note-2": 0})))
        await backend_that_waits(url)
        await holder.rollback()
    outcome = await pending
    assert isinstance(outcome, Appended)
    assert (outcome.first, outcome.version) == (1, 1)


async def test_an_append_in_a_transaction_with_one_snapshot_for_all_is_refused(log: PostgresEventLog, url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        with pytest.raises(psycopg.Error) as caught:
            await append_as_another_host(connection, new_event("Note-1"))
        assert caught.value.sqlstate == "TF002"


@pytest.mark.parametrize("sql", ["UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {}"])
@pytest.mark.parametrize(
    ("table", "column"),
    [("twofold_events", "position"), ("twofold_event_tags", "tag"), ("twofold_commands", "result")],
)
async def test_what_was_appended_can_be_neither_changed_nor_removed(
    log: PostgresEventLog, url: str, sql: str, table: str, column: str
) -> None:
    await log.append(append_of(new_event("Note-1", "x")))
    async with await psycopg.AsyncConnection.connect(url) as connection:
        with pytest.raises(psycopg.Error, match="append-only"):
            await connection.execute(sql.format(table, column, column).encode())


@pytest.mark.parametrize(
    "poison",
    [
        new_event("Note-1")._replace(payload=b"no json"),
        new_event("Note-1")._replace(payload=b'"\xff"'),
        new_event("Note-1")._replace(stream_id="with\0nul"),
        new_event("Note-1")._replace(stream_id="half a \ud800 pair"),
        new_event("Note-1")._replace(schema_version=2**40),
        new_event("Note-1")._replace(stream_id=INCOMPRESSIBLE),
        new_event("Note-1")._replace(tag_names=(INCOMPRESSIBLE,)),
    ],
    ids=["no json", "no utf-8", "nul", "surrogate", "number", "long name", "long tag"],
)
@pytest.mark.parametrize("company", [0, 20])
async def test_what_the_server_cannot_store_is_refused_alone(
    log: PostgresEventLog, poison: NewEvent, company: int
) -> None:
    good = [append_of(new_event("Note-2"), new_event()) for _ in range(company)]
    good.insert(company // 2, append_of(poison))
    outcomes = await asyncio.gather(*map(log.append, good), return_exceptions=True)
    refused = outcomes.pop(company // 2)
    assert isinstance(refused, LimitExceededError)
    assert [o.first for o in outcomes if isinstance(o, Appended)] == list(range(1, 2 * company, 2))
    assert await log.head() == 2 * company


async def test_a_condition_over_a_long_log_is_judged_exactly(log: PostgresEventLog) -> None:
    """The long part of its range is looked through before the append takes the lock."""
    filler = append_of(*(new_event("Filler-1", "filler") for _ in range(2000)))
    await log.append(append_of(new_event("", "early")))
    await log.append(filler)
    await log.append(append_of(new_event("", "late")))
    for name, position in (("early", 1), ("late", 2002)):
        lost = await log.append(append_of(new_event(), fail_if=topic(name)))
        assert isinstance(lost, Rejected)
        assert [row.position for row in lost.conflicts] == [position]
        assert lost.reason.endswith("after None")
    assert isinstance(await log.append(append_of(new_event(), fail_if=topic("early"), after=1)), Appended)
    racers = [append_of(new_event("", "seat"), fail_if=topic("seat")) for _ in range(32)]
    outcomes = await asyncio.gather(*map(log.append, racers))
    assert sum(isinstance(outcome, Appended) for outcome in outcomes) == 1
    assert len(await log.read(topic("seat"), limit=10)) == 1
    assert await log.head() == 2004
    assert len(await log.read(EventQuery.all(), after=2000, limit=10)) == 4
