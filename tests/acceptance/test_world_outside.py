"""The world outside: databases, roles and tables that are not as an application left them, or not its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql as composed
from tests.accounts import Balance, Balances, Deposit, Deposited, GetBalance, Open, Opened, wire
from tests.synchronizing import PATIENCE, deposited, engine_at, opened, running, write

from twofold import Application, ReadModelSynchronizer, SqlProjection

DOCS = Path(__file__).parents[2] / "docs/how-to/run-in-production.md"


# -- a projection's tables are one set --------------------------------------------------------------------------


class Statements(SqlProjection):
    """Lines refer to accounts: neither table can be dropped, emptied or shown by itself."""

    name = "statements"
    tables = ("statement_accounts", "statement_lines")

    def handles(self) -> tuple[type, ...]:
        return (Opened, Deposited)

    connection = "sqlalchemy"

    def create(self, connection: Any) -> None:
        accounts, lines = map(self.table, self.tables)
        connection.exec_driver_sql(f"CREATE TABLE {accounts} (account text PRIMARY KEY)")
        connection.exec_driver_sql(f"CREATE TABLE {lines} (account text NOT NULL REFERENCES {accounts}, amount int)")

    def apply(self, event: Opened | Deposited, connection: Any) -> None:
        accounts, lines = map(self.table, self.tables)
        if isinstance(event, Opened):
            connection.exec_driver_sql(f"INSERT INTO {accounts} VALUES ('{event.account}')")
        else:
            connection.exec_driver_sql(f"INSERT INTO {lines} VALUES ('{event.account}', {event.amount})")


JOINED = (
    "SELECT account, sum(amount) FROM statement_accounts JOIN statement_lines USING (account) GROUP BY 1 ORDER BY 1"
)


async def test_tables_that_refer_to_each_other_are_built_shown_emptied_and_dropped_as_one_set(url: str) -> None:
    async with engine_at(url) as (engine, store):
        head = await write(store, opened("a"), opened("b"), *(deposited(each, 3) for each in "aab"))
        synchronizer = ReadModelSynchronizer(store, engine.read_database)
        synchronizer.add(Statements())
        control, ask = synchronizer.control("statements"), engine.read_database.query

        async def shown() -> list[tuple[Any, ...]]:
            await synchronizer.wait(head, PATIENCE)
            return [(account, int(total)) for account, total in await ask(JOINED)]

        async with running(synchronizer):
            assert await shown() == [("a", 6), ("b", 3)]
            await control.rebuild()
            assert await shown() == [("a", 6), ("b", 3)]
            await control.roll_back()
            assert await shown() == [("a", 6), ("b", 3)]
            assert await control.drop_previous()
            await control.reset()
            assert await shown() == [("a", 6), ("b", 3)]
            for _ in range(2):  # each drops the tables of the one before the last
                await control.rebuild()
            assert await shown() == [("a", 6), ("b", 3)]


# -- a role that owns nothing -----------------------------------------------------------------------------------


def grants() -> str:
    """Return what the page "In production" tells to grant."""
    return "".join(line + "\n" for line in DOCS.read_text("utf-8").splitlines() if line.startswith("GRANT "))


@dataclass
class Role:
    """A role of the server that owns nothing."""

    url: str
    name: str


@pytest.fixture
def role(new_database: Any) -> Any:
    url = new_database(18)
    name = "app_" + re.sub(r"\W", "", url)[-20:]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(composed.SQL("CREATE ROLE {} LOGIN").format(composed.Identifier(name)))
    yield Role(url, name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(composed.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(composed.Identifier(name)))


def application(url: str) -> Application:
    app = Application(url)
    wire(app)
    balances = app.projections.add(Balances())

    async def get(query: GetBalance) -> Balance | None:
        return await balances.get(query.account)

    app.queries.register(GetBalance, get)
    return app


async def test_a_role_with_the_grants_of_the_page_in_production_commands_follows_and_asks(role: Role) -> None:
    async with application(role.url) as app:
        await app.commands.execute(Open(account="a"))
    with psycopg.connect(role.url, autocommit=True) as connection:
        connection.execute(grants().replace("shop_app", role.name).encode())
    async with application(role.url.replace("postgres@", f"{role.name}@")) as app:
        receipt = await app.commands.execute(Deposit(account="a"))
        found = await app.queries.dispatch(GetBalance("a"), after=receipt)
        assert found is not None
        assert found.amount == 1
        assert not any(status.problems for status in await app.projections.status())
