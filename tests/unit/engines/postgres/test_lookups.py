"""Look-ups of rows by key: those that wait at one moment share a statement, and each gets its own rows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from twofold.engines.postgres.read_models.lookups import Keys, Lookups
from twofold.errors import StorageError
from twofold.ports.read_database import Values
from twofold.ports.table import Column, Kind, Table

ACCOUNTS, ORDERS = (Table(name, (Column("id", Kind.TEXT, False),), ("id",), (), ()) for name in ("accounts", "orders"))


class Server:
    """Answers statements one by one, when it is told to; a row is its table's name and its key."""

    def __init__(self) -> None:
        self.statements: list[tuple[str, list[str]]] = []
        self.may_answer = asyncio.Event()
        self.error: Exception | None = None

    async def load(self, table: Table, keys: Keys) -> Sequence[Values | None]:
        self.statements.append((table.name, [key for (key,) in keys]))
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return [None if key.startswith("missing") else (table.name, key) for (key,) in keys]


@pytest.fixture
def server() -> Server:
    return Server()


async def begin(lookups: Lookups, table: Table, *keys: str) -> asyncio.Task[Any]:
    task = asyncio.create_task(lookups.rows(table, [(key,) for key in keys]))
    await asyncio.sleep(0)
    return task


async def test_what_comes_while_a_statement_is_under_way_shares_the_next_one(server: Server) -> None:
    lookups = Lookups(server.load, under_way=1, together=10)
    first = await begin(lookups, ACCOUNTS, "a")
    waiting = [await begin(lookups, ACCOUNTS, *keys) for keys in (["b"], ["missing"], ["c", "missing", "a"])]
    assert server.statements == [("accounts", ["a"])]
    server.may_answer.set()

    assert await first == [("accounts", "a")]
    assert await asyncio.gather(*waiting) == [[("accounts", "b")], [], [("accounts", "c"), ("accounts", "a")]]
    assert server.statements[1:] == [("accounts", ["b", "missing", "c", "missing", "a"])]


async def test_a_lookup_that_comes_alone_waits_for_no_other(server: Server) -> None:
    lookups = Lookups(server.load, under_way=2, together=10)
    server.may_answer.set()
    for key in ("a", "b"):
        assert await lookups.rows(ACCOUNTS, [(key,)]) == [("accounts", key)]
    assert len(server.statements) == 2


async def test_tables_take_turns_and_a_statement_has_no_more_keys_than_it_may(server: Server) -> None:
    lookups = Lookups(server.load, under_way=1, together=2)
    tasks = [await begin(lookups, ACCOUNTS, "a")]
    tasks += [await begin(lookups, ACCOUNTS, key) for key in "bcd"]
    tasks += [await begin(lookups, ORDERS, "e"), await begin(lookups, ACCOUNTS, "f", "g", "h")]
    server.may_answer.set()
    await asyncio.gather(*tasks)
    assert server.statements == [
        ("accounts", ["a"]),
        ("accounts", ["b", "c"]),
        ("orders", ["e"]),
        ("accounts", ["d"]),
        ("accounts", ["f", "g", "h"]),
    ]


async def test_an_error_reaches_all_who_share_a_statement_and_the_next_one_begins(server: Server) -> None:
    lookups = Lookups(server.load, under_way=1, together=2)
    server.error = StorageError("away")
    tasks = [await begin(lookups, ACCOUNTS, key) for key in "abcd"]
    server.may_answer.set()
    assert [type(each) for each in await asyncio.gather(*tasks, return_exceptions=True)] == [StorageError] * 4
    server.error = None
    assert await lookups.rows(ACCOUNTS, [("a",)]) == [("accounts", "a")]


async def test_a_caller_that_gives_up_hinders_no_other(server: Server) -> None:
    lookups = Lookups(server.load, under_way=1, together=10)
    tasks = [await begin(lookups, ACCOUNTS, key) for key in "abc"]
    tasks[1].cancel()
    tasks[0].cancel()  # under way itself: the others' statement begins at once
    await asyncio.sleep(0)
    server.may_answer.set()
    assert await tasks[2] == [("accounts", "c")]
    assert server.statements == [("accounts", ["a"]), ("accounts", ["c"])]
    assert await lookups.rows(ACCOUNTS, [("d",)]) == [("accounts", "d")]
