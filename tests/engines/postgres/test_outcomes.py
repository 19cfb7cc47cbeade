"""Commits whose outcome is in doubt: never a double, never a false conflict, never "failed" before it is decided."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import pytest_asyncio
from tests.engines.postgres.weak_line import WeakLine, weak_line
from tests.postgres_servers import PostgresServer
from tests.synchronizing import PATIENCE

from twofold.engines.postgres import PostgresDatabase, PostgresEventLog
from twofold.errors import OutcomeUnknownError, StorageUnavailableError
from twofold.messages.event_query import EventQuery
from twofold.options import PostgresOptions
from twofold.ports.event_log import Append, Appended, Rejected
from twofold.testing.samples import append_of, new_command, new_event, topic

EVERYTHING = EventQuery.all()


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[PostgresEventLog]:
    log = PostgresEventLog(PostgresDatabase(url, options=PostgresOptions(**options)))
    await log.open()
    try:
        yield log
    finally:
        await log.close()


@pytest_asyncio.fixture
async def line(postgres_server: Callable[[int], PostgresServer]) -> AsyncIterator[WeakLine]:
    async with weak_line(postgres_server(18).folder) as line:
        yield line


@pytest.fixture
def url_over_line(url: str, line: WeakLine) -> str:
    return f"postgresql://postgres@127.0.0.1:{line.port}{urlsplit(url).path}"


@asynccontextmanager
async def lock_held(url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """Hold what every append waits for."""
    async with await psycopg.AsyncConnection.connect(url) as holder:
        await holder.execute("SELECT FROM twofold_head FOR UPDATE")
        yield holder
        await holder.rollback()


async def backend_that_waits(url: str) -> int:
    """Return the process id of the backend that waits for the lock."""
    async with asyncio.timeout(PATIENCE), await psycopg.AsyncConnection.connect(url, autocommit=True) as looker:
        while True:
            found = await looker.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if row := await found.fetchone():
                return int(row[0])
            await asyncio.sleep(0.005)  # another process is on its way


async def positions(log: PostgresEventLog) -> list[int]:
    return [row.position for row in await log.read(EVERYTHING, limit=10_000)]


@pytest.mark.parametrize(
    "append",
    [
        append_of(new_event("Note-1", "x")),
        append_of(new_event("Note-1", "x"), expected={"Note-1": 0}),
        append_of(new_event("Note-1", "x"), new_event("Note-1"), fail_if=topic("x")),
        append_of(new_event("Note-1"), expected={"Note-1": 0}, command=new_command()),
    ],
    ids=["plain", "expected version", "condition", "command"],
)
@pytest.mark.parametrize("losses", [1, 3])
async def test_an_answer_lost_after_the_commit_is_found_again(
    url_over_line: str, line: WeakLine, append: Append, losses: int
) -> None:
    async with opened(url_over_line) as log:
        await log.append(append_of(new_event("Other-1")))
        line.swallow = losses
        outcome = await log.append(append)
        assert line.swallowed == losses
        assert isinstance(outcome, Appended)
        assert (outcome.first, outcome.last) == (2, 1 + len(append.events))
        assert await positions(log) == list(range(1, 2 + len(append.events)))


async def test_a_mixed_batch_whose_answer_is_lost_is_judged_as_it_was(url_over_line: str, line: WeakLine) -> None:
    async with opened(url_over_line) as log:
        await log.append(append_of(new_event("Other-1")))
        first, second = (append_of(new_event("Note-1"), expected={"Note-1": 0}) for _ in range(2))
        line.swallow = 1
        won, lost, free = await asyncio.gather(*map(log.append, (first, second, append_of(new_event("Note-1")))))
        assert isinstance(won, Appended)
        assert won.first == 2
        assert isinstance(lost, Rejected)
        assert [row.event_id for row in lost.conflicts][:1] == [first.events[0].event_id]
        assert isinstance(free, Appended)
        assert free.first == 3


async def test_a_backend_that_is_terminated_before_its_commit_is_replaced(url: str) -> None:
    async with opened(url) as log:
        await log.append(append_of(new_event("Note-1")))
        async with lock_held(url) as holder:
            pending = asyncio.create_task(log.append(append_of(new_event("Note-1"), expected={"Note-1": 1})))
            victim = await backend_that_waits(url)
            await holder.execute("SELECT pg_terminate_backend(%s, 5000)", [victim])
        assert isinstance(await pending, Appended)
        assert await positions(log) == [1, 2]


async def test_a_server_that_crashes_among_appends_loses_and_doubles_nothing(
    own_server: Callable[..., PostgresServer],
) -> None:
    server = own_server()
    async with opened(server.url("postgres")) as log:

        async def write(number: int) -> list[tuple[int, bytes]]:
            told = []
            for version in range(60):
                append = append_of(new_event(f"Note-{number}"), expected={f"Note-{number}": version})
                outcome = await log.append(append)
                assert isinstance(outcome, Appended)
                told.append((outcome.first, append.events[0].event_id))
            return told

        writers = [asyncio.create_task(write(number)) for number in range(20)]
        for _ in range(2):
            await log.wait(await log.head() + 50, 10)
            await asyncio.to_thread(server.restart, "QUIT")
        told = sorted(fact for facts in await asyncio.gather(*writers) for fact in facts)
        rows = await log.read(EVERYTHING, limit=10_000)
        assert told == [(row.position, row.event_id) for row in rows]
        assert [position for position, _ in told] == list(range(1, 1201))


async def test_whoever_waits_is_woken_after_a_restart_of_the_server(own_server: Callable[..., PostgresServer]) -> None:
    server = own_server()
    async with opened(server.url("postgres")) as waiting, opened(server.url("postgres")) as writing:
        await writing.append(append_of(new_event("Note-1")))
        assert await waiting.wait(0, PATIENCE) == 1
        waiter = asyncio.create_task(waiting.wait(1, 30))
        await asyncio.to_thread(server.restart)
        await writing.append(append_of(new_event("Note-1")))
        assert await waiter == 2
        assert len(await waiting.read(EVERYTHING, limit=10)) == 2


async def test_past_the_deadline_the_outcome_is_unknown_and_a_repeat_finds_it(url: str) -> None:
    append = append_of(new_event("Note-1"), expected={"Note-1": 0})
    async with opened(url, append_timeout=0.3) as log:
        async with lock_held(url):
            with pytest.raises(OutcomeUnknownError, match="same ids"):
                await log.append(append)
        outcome = await log.append(append)
        assert isinstance(outcome, Appended)
        assert (outcome.first, outcome.last) == (1, 1)
        assert await positions(log) == [1]


async def test_a_cancelled_caller_does_not_cancel_the_commit(url: str) -> None:
    async with opened(url) as log:
        async with lock_held(url):
            pending = asyncio.create_task(log.append(append_of(new_event("Note-1"))))
            await backend_that_waits(url)
            pending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pending
        assert isinstance(await log.append(append_of(new_event("Note-2"))), Appended)
        assert [row.stream_id for row in await log.read(EVERYTHING, limit=10)] == ["Note-1", "Note-2"]


async def test_what_was_never_sent_has_failed_for_certain(own_server: Callable[..., PostgresServer]) -> None:
    server = own_server()
    async with opened(server.url("postgres"), answer_timeout=1.0, append_timeout=0.3) as log:
        await asyncio.to_thread(server.stop)
        with pytest.raises(StorageUnavailableError):
            await log.head()
        with pytest.raises(StorageUnavailableError):
            await log.append(append_of(new_event("Note-1")))
        await asyncio.to_thread(server.start)
        assert isinstance(await log.append(append_of(new_event("Note-2"))), Appended)
        assert await positions(log) == [1]
