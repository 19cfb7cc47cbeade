"""Nothing waits for a silent connection: it is hung up, and the question is asked on another one."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import pytest_asyncio
from tests.accounts import Balances
from tests.debian import ProgramMissingError
from tests.engines.postgres.frozen_line import FrozenLine, frozen_line
from tests.engines.postgres.pgbouncer import pgbouncer
from tests.postgres_servers import PostgresServer
from tests.synchronizing import deposited, engine_at, opened, running, until, write

from twofold import EventStore, ReadModelSynchronizer
from twofold.engines.engine import Engine
from twofold.engines.postgres import PostgresDatabase
from twofold.engines.postgres.connection import Connection
from twofold.errors import OutcomeUnknownError, StorageError, StorageUnavailableError
from twofold.messages.event_query import EventQuery
from twofold.options import Options, PostgresOptions
from twofold.ports.event_log import Appended
from twofold.ports.read_database import Selection
from twofold.testing.samples import append_of, new_event

OPTIONS = Options(
    postgres=PostgresOptions(
        silence_timeout=0.2,
        answer_timeout=2.0,
        statement_timeout=60.0,
        connect_timeout=2.0,
        append_timeout=3.0,
        poll=0.1,
    )
)
BOUND = 8.0
"""Seconds in which all must come back; without bounds, they wait for ever. The machine may be slow."""
TABLE = Balances().table()._replace(name="apart")
KEY = ("a",)

Use = Callable[[Engine], Awaitable[object]]


async def transact(engine: Engine) -> object:
    async with engine.read_database.transaction() as transaction:
        return await transaction.run("SELECT 1")


async def join(engine: Engine) -> object:
    async with engine.log.transaction() as tx:  # type: ignore[attr-defined]
        return await (await tx.connection.execute("SELECT 1")).fetchone()


QUESTIONS: dict[str, Use] = {
    "head": lambda engine: engine.log.head(),
    "read": lambda engine: engine.log.read(EventQuery.all(), limit=10),
    "read_stream": lambda engine: engine.log.read_stream("Note-1", limit=10),
    "read_short_stream": lambda engine: engine.log.read_short_stream("Note-1", limit=10),  # type: ignore[attr-defined]
    "find_command": lambda engine: engine.log.find_command(b"x" * 16),
    "load": lambda engine: engine.read_database.load(TABLE, [KEY]),
    "select": lambda engine: engine.read_database.select(TABLE, Selection()),
    "totals": lambda engine: engine.read_database.totals(TABLE, (), ()),
    "query": lambda engine: engine.read_database.query("SELECT 1"),
    "check": lambda engine: engine.log.check(),  # type: ignore[attr-defined]
    "append": lambda engine: engine.log.append(append_of(new_event("Note-1"))),
}
TRANSACTIONS: dict[str, Use] = {"transaction": transact, "joined": join}


@pytest_asyncio.fixture
async def line(postgres_server: Callable[[int], PostgresServer]) -> AsyncIterator[FrozenLine]:
    async with frozen_line(postgres_server(18).folder) as line:
        yield line


@asynccontextmanager
async def engine_with_a_table(url: str) -> AsyncIterator[Engine]:
    async with engine_at(url, OPTIONS) as (engine, _):
        async with engine.read_database.transaction() as transaction:
            await transaction.create(TABLE)
        yield engine


@pytest_asyncio.fixture
async def engine(url: str, line: FrozenLine) -> AsyncIterator[Engine]:
    """An engine at the other end of the line, whose connections are all in use once."""
    async with engine_with_a_table(f"postgresql://postgres@127.0.0.1:{line.port}{urlsplit(url).path}") as engine:
        for use in (QUESTIONS["head"], QUESTIONS["append"], QUESTIONS["load"]):
            await use(engine)
        yield engine


@contextmanager
def bounded(seconds: float = BOUND) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


@pytest.mark.parametrize("lost", ["question", "answer"])
@pytest.mark.parametrize("use", QUESTIONS.values(), ids=QUESTIONS.keys())
async def test_a_question_is_asked_again_on_another_connection(
    engine: Engine, line: FrozenLine, use: Use, lost: str
) -> None:
    expected = await use(engine)
    line.freeze(questions=lost == "question")
    with bounded():
        async with asyncio.timeout(BOUND * 2):
            found = await use(engine)
    assert isinstance(found, Appended) or found == expected
    if isinstance(found, Appended):
        assert [row.position for row in await engine.log.read(EventQuery.all(), limit=10)] == [1, 2, 3]


@pytest.mark.parametrize("use", TRANSACTIONS.values(), ids=TRANSACTIONS.keys())
async def test_a_transaction_gives_up_and_the_next_one_works(engine: Engine, line: FrozenLine, use: Use) -> None:
    async def inside() -> None:
        async with engine.read_database.transaction() as transaction:
            line.freeze()
            await transaction.run("SELECT 1")

    with bounded():
        async with asyncio.timeout(BOUND * 2):
            with pytest.raises(StorageUnavailableError):
                await inside()
            assert await use(engine)


@pytest.mark.parametrize("use", (QUESTIONS | TRANSACTIONS).values(), ids=(QUESTIONS | TRANSACTIONS).keys())
async def test_a_server_that_is_silent_on_all_connections_is_unavailable_within_the_bound(
    engine: Engine, line: FrozenLine, use: Use
) -> None:
    line.freeze(new=True)
    with bounded(BOUND * 2):
        async with asyncio.timeout(BOUND * 3):
            with pytest.raises((StorageError, OutcomeUnknownError, psycopg.OperationalError)):
                await use(engine)
    with bounded():
        await engine.read_database.close()
        await engine.log.close()
    line.thaw()


async def test_who_waits_for_an_event_is_woken_although_the_listener_was_cut_off(
    url: str, engine: Engine, line: FrozenLine
) -> None:
    head = await engine.log.head()
    waiting = asyncio.create_task(engine.log.wait(head, BOUND * 2))
    await asyncio.sleep(0.3)  # the listener listens: nothing tells so from outside
    line.freeze()
    async with engine_at(url) as (other, _):
        await other.log.append(append_of(new_event("Note-1")))
        with bounded():
            assert await waiting == head + 1


async def test_a_worker_goes_on_when_its_connections_go_silent(url: str, engine: Engine, line: FrozenLine) -> None:
    store = EventStore(engine.log)
    synchronizer = ReadModelSynchronizer(store, engine.read_database)
    balances = synchronizer.add(Balances())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("z")), BOUND)
        line.freeze()
        with bounded(BOUND * 2):
            position = await write(store, deposited("z", 5))
            await synchronizer.wait(position, BOUND * 2)
        row = await balances.get("z")
        assert row is not None
        assert row.changes == 1
        line.freeze()
        with bounded(BOUND * 2):
            assert await synchronizer.status()
            line.freeze(new=True)
            await synchronizer.close()
    line.thaw()


async def test_closing_does_not_wait_for_what_is_silent(engine: Engine, line: FrozenLine) -> None:
    line.freeze(new=True)
    pending = [asyncio.ensure_future(use(engine)) for use in (QUESTIONS["head"], QUESTIONS["append"])]
    await asyncio.sleep(0)
    with bounded():
        await engine.read_database.close()
        await engine.log.close()
    await asyncio.gather(*pending, return_exceptions=True)
    line.thaw()


async def test_a_cancelled_question_gives_its_connection_up_when_the_server_is_silent(
    engine: Engine, line: FrozenLine
) -> None:
    line.freeze(new=True)
    pending = asyncio.create_task(engine.read_database.query("SELECT 1"))
    await asyncio.sleep(0.05)  # it has been sent: nothing tells so from outside
    pending.cancel()
    with bounded(4):
        await asyncio.gather(pending, return_exceptions=True)
    line.thaw()
    assert await engine.read_database.query("SELECT 1") == [(1,)]


async def test_a_cancelled_question_gives_its_connection_up_when_the_backend_cannot_end_it(url: str) -> None:
    async with engine_at(url, OPTIONS) as (engine, _):
        [(victim,)] = await engine.read_database.query("SELECT pg_backend_pid()")
        pending = asyncio.create_task(engine.read_database.query("SELECT 1 FROM pg_sleep(30)"))
        await asyncio.sleep(0.1)  # the backend has begun: nothing tells so from outside
        os.kill(victim, signal.SIGSTOP)
        try:
            pending.cancel()
            with bounded(4):
                await asyncio.gather(pending, return_exceptions=True)
        finally:
            os.kill(victim, signal.SIGCONT)


async def test_a_statement_at_which_the_server_works_is_waited_for(url: str) -> None:
    async with engine_at(url, OPTIONS) as (engine, _):
        assert await engine.read_database.query("SELECT 1 FROM pg_sleep(1)") == [(1,)]


async def test_a_statement_that_hangs_while_the_server_is_at_work_on_it_has_its_bound_too(url: str) -> None:
    async with engine_at(url, OPTIONS) as (engine, _):
        database: PostgresDatabase = engine.log._database  # type: ignore[attr-defined]
        stopped: list[int] = []

        async def question(connection: Connection) -> int:
            if not stopped:
                stopped.append(connection.info.backend_pid)
                asyncio.get_running_loop().call_later(0.2, os.kill, stopped[0], signal.SIGSTOP)
            cursor = await connection.execute("SELECT 7 FROM pg_sleep(0.6)")
            return int(((await cursor.fetchone()) or (0,))[0])

        try:
            with bounded():
                assert await database.ask(question, 3.0) == 7
        finally:
            os.kill(stopped[0], signal.SIGCONT)


async def test_a_statement_of_one_backend_that_is_frozen_while_it_is_idle_is_asked_again(url: str) -> None:
    async with engine_at(url, OPTIONS) as (engine, _):
        [(victim,)] = await engine.read_database.query("SELECT pg_backend_pid()")
        os.kill(victim, signal.SIGSTOP)
        try:
            with bounded():
                assert await engine.log.head() == 0
        finally:
            os.kill(victim, signal.SIGCONT)


async def test_a_frozen_server_behind_a_pooler_is_unavailable_within_the_bound(
    own_server: Callable[..., PostgresServer],
) -> None:
    server = own_server()
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(pgbouncer(server.folder))
        except ProgramMissingError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        url = server.url("postgres").replace(str(server.folder), str(folder))
        async with engine_with_a_table(url) as engine:
            for use in QUESTIONS.values():
                await use(engine)
            processes = server.processes
            for each in processes:
                os.kill(each, signal.SIGSTOP)
            try:
                for name in ("head", "select", "append"):
                    with bounded(BOUND * 2), pytest.raises((StorageUnavailableError, OutcomeUnknownError)):
                        await QUESTIONS[name](engine)
            finally:
                for each in processes:
                    os.kill(each, signal.SIGCONT)
            async with asyncio.timeout(60):
                await until(lambda: works(engine))


async def works(engine: Engine) -> bool:
    try:
        return bool(await engine.log.head())
    except StorageError:
        return False


def test_the_bounds_are_those_of_the_options() -> None:
    defaults: dict[str, Any] = vars(PostgresOptions())
    assert defaults["silence_timeout"] * 2 + defaults["connect_timeout"] < defaults["answer_timeout"]
