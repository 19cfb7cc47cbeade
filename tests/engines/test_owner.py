"""What one process and event loop has opened is refused by name everywhere else, at the first use, and goes on here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.synchronizing import PATIENCE, engine_at
from tests.unit.ports.test_owner import in_a_child

from twofold import Application, EventQuery, EventStore
from twofold.engines.duckdb import DuckDbReadDatabase
from twofold.engines.engine import Engine, connect
from twofold.errors import OwnershipError
from twofold.testing.samples import Noted, append_of, new_event

Use = Callable[[Engine], Awaitable[object]]


async def transact(engine: Engine) -> None:
    async with EventStore(engine.log).transaction() as tx:
        tx.append([Noted(text="a")])


async def change(engine: Engine) -> None:
    async with engine.read_database.transaction() as tx:
        await tx.run("CREATE TABLE own (name TEXT)")


USES: dict[str, Use] = {
    "open": lambda engine: engine.log.open(),
    "append": lambda engine: engine.log.append(append_of(new_event("Note-1"))),
    "read": lambda engine: engine.log.read(EventQuery.all(), limit=1),
    "read_short_stream": lambda engine: engine.log.read_short_stream("Note-1", limit=1),  # type: ignore[attr-defined]
    "read_stream": lambda engine: engine.log.read_stream("Note-1", limit=1),
    "head": lambda engine: engine.log.head(),
    "wait": lambda engine: engine.log.wait(0, 5),
    "transaction": transact,
    "query": lambda engine: engine.read_database.query("SELECT 1"),
    "change": change,
    "close": lambda engine: engine.log.close(),
}


each_use = pytest.mark.parametrize("use", USES.values(), ids=USES)


async def told(use: Callable[[], Awaitable[object]]) -> str:
    try:
        async with asyncio.timeout(PATIENCE):
            await use()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


UNOPENED = r"^RuntimeError: .* is not open; use `async with`, or await open\(\) first; .*with lifespan=app.lifespan$"


async def test_what_is_not_open_says_how_it_is_opened(any_url: str, tmp_path: Path) -> None:
    engine, duckdb = connect(any_url), DuckDbReadDatabase(tmp_path / "rows.duckdb")
    refused = ["query"] if any_url == "memory://" else ["query", "append"]  # a log in memory has nothing to open
    for use in map(USES.__getitem__, refused):
        assert re.match(UNOPENED, await told(partial(use, engine)))
    assert re.match(UNOPENED, await told(lambda: duckdb.query("SELECT 1")))


@each_use
def test_a_child_that_was_forked_off_is_refused_and_its_parent_goes_on(url: str, use: Use) -> None:
    async def run() -> None:
        async with engine_at(url) as (engine, store):
            await store.append([Noted(text="before")])
            said = in_a_child(lambda: in_a_loop_of_its_own(lambda: use(engine)))
            assert said.startswith("OwnershipError: "), said
            assert "forked off afterwards; open it in each process, after the fork" in said
            await store.append([Noted(text="after")])
            assert await store.head() == 2

    asyncio.run(run())


def test_a_child_does_not_open_a_sqlite_file_that_its_parent_had_open(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/twofold.db"

    async def append() -> None:
        async with engine_at(url) as (_, store):
            await store.append([Noted(text="a")])

    async def run() -> None:
        async with engine_at(url) as (_, store):
            await store.append([Noted(text="before")])
            for link in (url, f"sqlite:///{tmp_path}/link.db"):
                (tmp_path / "link.db").unlink(missing_ok=True)
                (tmp_path / "link.db").symlink_to(tmp_path / "twofold.db")
                url_of_child.append(link)
                said = in_a_child(lambda: in_a_loop_of_its_own(opened_by_child))
                assert said.startswith("OwnershipError: "), said
                assert "was open in the parent of this process" in said
                assert '"spawn"' in said
            await store.append([Noted(text="after")])
            assert await store.head() == 2

    async def opened_by_child() -> None:
        async with engine_at(url_of_child[-1]):
            pass

    url_of_child: list[str] = []
    asyncio.run(run())
    assert in_a_child(lambda: in_a_loop_of_its_own(append)) == "nothing", "it was closed before the fork"


@each_use
def test_a_thread_with_an_event_loop_of_its_own_is_refused(url: str, use: Use) -> None:
    async def run() -> None:
        async with engine_at(url) as (engine, store):
            said = await asyncio.to_thread(in_a_loop_of_its_own, lambda: use(engine))
            assert said.startswith("OwnershipError: "), said
            assert "run_coroutine_threadsafe" in said
            await store.append([Noted(text="after")])

    asyncio.run(run())


def test_a_second_event_loop_is_refused(url: str) -> None:
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    opening = engine_at(url)
    engine, store = first.run_until_complete(opening.__aenter__())
    for use in USES.values():
        said = second.run_until_complete(told(lambda use=use: use(engine)))  # type: ignore[misc]
        assert said.startswith("OwnershipError: "), said
        assert "was opened in another event loop" in said
    first.run_until_complete(store.append([Noted(text="after")]))
    first.run_until_complete(opening.__aexit__(None, None, None))
    first.close()
    second.close()


def test_a_database_that_is_closed_may_be_opened_in_another_event_loop(url: str) -> None:
    engines: list[Engine] = []

    async def run() -> None:
        async with engine_at(url) as (engine, _):
            engines.append(engine)

    async def again() -> None:
        await engines[0].log.open()
        await engines[0].log.append(append_of(new_event("Note-1")))
        await engines[0].log.close()

    asyncio.run(run())
    asyncio.run(again())


async def test_reports_on_duckdb_belong_to_the_loop_that_opened_them(tmp_path: Path) -> None:
    database = DuckDbReadDatabase(tmp_path / "rows.duckdb")
    await database.open()
    uses: list[Callable[[], Awaitable[Any]]] = [database.open, lambda: database.query("SELECT 1"), database.close]
    for use in uses:
        for said in (
            await asyncio.to_thread(in_a_loop_of_its_own, use),
            in_a_child(lambda use=use: in_a_loop_of_its_own(use)),  # type: ignore[misc]
        ):
            assert said.startswith("OwnershipError: the database"), said
    assert await database.query("SELECT 1") == [(1,)]
    await database.close()


async def test_an_application_is_started_once(url: str) -> None:
    app = Application(url)
    async with app:
        with pytest.raises(OwnershipError, match="started already"):
            await app.start()
        await app.store.append([Noted(text="a")])
    async with app:
        assert await app.store.head() == 1


async def test_of_two_starts_at_the_same_moment_one_is_refused(url: str) -> None:
    app = Application(url)
    outcomes = await asyncio.gather(app.start(), app.start(), return_exceptions=True)
    assert sorted(str(type(outcome).__name__) for outcome in outcomes) == ["NoneType", "OwnershipError"]
    await app.store.append([Noted(text="a")])
    await app.stop()


async def test_an_application_is_started_and_stopped_by_its_own_loop_and_process_only(url: str) -> None:
    async with Application(url) as app:
        for use in (app.start, app.stop):
            assert "OwnershipError" in await asyncio.to_thread(in_a_loop_of_its_own, use)
            assert "OwnershipError" in in_a_child(lambda use=use: in_a_loop_of_its_own(use))  # type: ignore[misc]
        await app.store.append([Noted(text="a")])


def in_a_loop_of_its_own(use: Callable[[], Awaitable[object]]) -> str:
    loop = asyncio.SelectorEventLoop()
    asyncio.events._set_running_loop(None)  # a child begins within its parent's
    try:
        return loop.run_until_complete(told(use))
    finally:
        loop.close()
