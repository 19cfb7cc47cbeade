"""PostgreSQL's read database passes the suite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from twofold.engines.postgres import PostgresDatabase, PostgresReadDatabase
from twofold.ports.read_database import ReadDatabase
from twofold.ports.table import Column, Kind, Table
from twofold.testing import ReadDatabaseConformance
from twofold.testing.read_database_suite.requests import RequestPromises


@pytest.mark.parametrize("version", [15, 16, 18], scope="class")
class TestPostgresReadDatabase(RequestPromises, ReadDatabaseConformance):
    @pytest.fixture
    def address(self, version: int, new_database: Callable[[int], str]) -> str:
        return new_database(version)

    @pytest_asyncio.fixture
    async def read_database(self, address: str) -> AsyncIterator[PostgresReadDatabase]:
        database = PostgresReadDatabase(PostgresDatabase(address))
        await database.open()
        yield database
        await database.close()

    @pytest.fixture
    def another(self, address: str) -> Callable[[], ReadDatabase]:
        return lambda: PostgresReadDatabase(PostgresDatabase(address))


async def test_a_hundred_lookups_at_one_moment_are_a_few_statements(
    new_database: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = PostgresReadDatabase(PostgresDatabase(new_database(18)))
    table = Table(
        "notes", (Column("id", Kind.TEXT, nullable=False), Column("text", Kind.TEXT, nullable=True)), ("id",), (), ()
    )
    await rows.open()
    async with rows.transaction() as transaction:
        await transaction.create(table)
        await transaction.run("INSERT INTO notes SELECT n, 'note ' || n FROM generate_series(1, 100) n")
    keys = [(str(number),) for number in range(1, 101)]
    keys[50:50] = [("no\0such",), ("101",)]  # the first of which no row can have
    statements, ask = list[Any](), rows._database.ask

    async def counted(question: Any, limit: float | None = None) -> Any:
        statements.append(question)
        return await ask(question, limit)

    monkeypatch.setattr(rows._database, "ask", counted)
    found = await asyncio.gather(*(rows.load(table, [key, ("1",)]) for key in keys))
    expected = [[] if key in [("no\0such",), ("101",)] else [(*key, f"note {key[0]}")] for key in keys]
    assert [sorted(map(tuple, each)) for each in found] == [sorted([("1", "note 1"), *each]) for each in expected]
    assert len(statements) <= 10, "the two that went at once, and those for all that had come in the meantime"
    await rows.close()
