"""Queries go to a streaming standby; whoever must see what was written waits until it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from decimal import Decimal

import pytest
from tests.accounts import Balance, Balances, Deposit, GetBalance, Open, wire
from tests.postgres_servers import PostgresServer
from tests.synchronizing import PATIENCE

from twofold import Application, ReadModel, ReadPolicy, Receipt, WhenLate
from twofold.engines.postgres import PostgresDatabase
from twofold.errors import StaleReadError, StorageError
from twofold.options import Options, QueryOptions

FRESH = Balance("a", "ann", Decimal(1), 1)
STALE = Balance("a", "ann")


class Pair:
    """A primary with its standby, and an application that writes to the one and asks the other."""

    def __init__(self, primary: PostgresServer, standby: PostgresServer) -> None:
        self.primary, self.standby = primary, standby
        self.app, self.balances = self.application(replica_url=standby.url("postgres"))
        wire(self.app)

        async def answer(query: GetBalance) -> Balance | None:
            return await self.balances.get(query.account)

        self.app.queries.register(GetBalance, answer)

    def application(self, replica_url: str | None = None) -> tuple[Application, ReadModel[Balance]]:
        """Return an application that writes to the primary."""
        app = Application(self.primary.url("postgres"), replica_url=replica_url)
        return app, app.projections.add(Balances())

    async def deposit_unseen(self) -> Receipt[Decimal]:
        """Deposit; the primary's read model shows it, and the standby's does not, as its replay is paused."""
        await asyncio.to_thread(self.standby.execute, "SELECT pg_wal_replay_pause()")
        receipt = await self.app.commands.execute(Deposit(account="a"))
        here, balances = self.application()
        async with here:
            await here.projections.wait(receipt.position, PATIENCE)
            assert await balances.get("a") == FRESH
        return receipt

    async def go_on(self) -> None:
        """Let the standby replay."""
        await asyncio.to_thread(self.standby.execute, "SELECT pg_wal_replay_resume()")


@pytest.fixture
def pair(own_server: Callable[..., PostgresServer], new_standby: Callable[[PostgresServer], PostgresServer]) -> Pair:
    primary = own_server()
    return Pair(primary, new_standby(primary))


async def test_a_receipt_is_waited_for_where_the_question_is_answered(pair: Pair) -> None:
    async with pair.app as app:
        opened = await app.commands.execute(Open(account="a"))
        assert await app.queries.dispatch(GetBalance("a"), after=opened) == STALE
        receipt = await pair.deposit_unseen()
        assert await app.queries.dispatch(GetBalance("a")) == STALE
        with pytest.raises(StaleReadError, match=f"balances at {opened.position}"):
            await app.queries.dispatch(GetBalance("a"), after=receipt, timeout=0.2)
        answer = asyncio.create_task(app.queries.ask(GetBalance("a"), after=receipt, timeout=PATIENCE))
        await pair.go_on()
        assert (await answer).value == FRESH


async def test_what_a_replica_misses_is_folded_over_its_rows_if_the_policy_says_so(pair: Pair) -> None:
    async with pair.app as app:
        await app.queries.dispatch(GetBalance("a"), after=await app.commands.execute(Open(account="a")))
        receipt = await pair.deposit_unseen()
        answer = await app.queries.ask(GetBalance("a"), after=receipt, policy=ReadPolicy(0.0, WhenLate.OVERLAY))
        assert (answer.value, answer.stale) == (FRESH, False)
        answer = await app.queries.ask(GetBalance("a"), after=receipt, policy=ReadPolicy(0.0, WhenLate.ANSWER_STALE))
        assert (answer.value, answer.stale, answer.age is not None) == (STALE, True, True)


async def test_a_replica_follows_rebuilds_and_roll_backs(pair: Pair) -> None:
    async with pair.app as app:
        for account in "abc":
            receipt = await app.commands.execute(Open(account=account))
            assert await app.queries.dispatch(GetBalance(account), after=receipt) == Balance(account, "ann")
            await app.projections.rebuild_projection("balances")
            assert (await pair.balances.page()).total == "abc".index(account) + 1
        await app.projections.control("balances").roll_back()
        await app.projections.control("balances").drop_previous()
        receipt = await app.commands.execute(Deposit(account="a"))
        assert await app.queries.dispatch(GetBalance("a"), after=receipt) == FRESH


async def test_questions_are_answered_when_the_replica_is_back(pair: Pair) -> None:
    async with pair.app as app:
        receipt = await app.commands.execute(Open(account="a"))
        assert await app.queries.dispatch(GetBalance("a"), after=receipt) == STALE
        await asyncio.to_thread(pair.standby.stop)
        receipt = await app.commands.execute(Deposit(account="a"))  # which the primary takes all the same
        answer = asyncio.create_task(app.queries.dispatch(GetBalance("a"), after=receipt, timeout=PATIENCE))
        await asyncio.to_thread(pair.standby.start)
        assert await answer == FRESH


async def test_the_primary_answers_while_the_replica_is_away_if_both_are_named(
    own_server: Callable[..., PostgresServer], new_standby: Callable[[PostgresServer], PostgresServer]
) -> None:
    primary = own_server()
    standby = new_standby(primary)
    hosts = f"{standby.folder},{primary.folder}"
    both = f"postgresql://postgres@/postgres?host={hosts}&target_session_attrs=prefer-standby"
    database = PostgresDatabase(both, migrate=False)
    connection = await database.connect()
    assert await (await connection.execute("SELECT pg_is_in_recovery()")).fetchone() == (True,)
    await connection.close()
    standby.stop()
    app = Application(primary.url("postgres"), replica_url=both)
    balances = app.projections.add(Balances())
    wire(app)
    async with app:
        receipt = await app.commands.execute(Open(account="a"))
        await app.projections.wait(receipt.position, PATIENCE)
        assert await balances.get("a") == STALE


async def test_a_replica_that_lags_at_the_start_is_waited_for(pair: Pair) -> None:
    """Neither Twofold's own tables nor the read model's are there yet."""
    await asyncio.to_thread(pair.standby.execute, "SELECT pg_wal_replay_pause()")
    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(stack.enter_async_context(pair.app))
        other, _ = pair.application()
        async with other:  # the primary is ready
            pass
        assert not starting.done()
        await pair.go_on()
        await starting
        receipt = await pair.app.commands.execute(Open(account="a"))
        assert await pair.app.queries.dispatch(GetBalance("a"), after=receipt) == STALE


async def test_a_replica_of_something_else_is_refused(own_server: Callable[..., PostgresServer]) -> None:
    options = Options(queries=QueryOptions(replication=0.2))
    server = own_server()
    with server.database() as url, server.database() as other:
        async with Application(other):
            pass
        app = Application(url, replica_url=other, options=options)
        app.projections.add(Balances())
        with pytest.raises(StorageError, match="make sure that it follows the database that this application writes"):
            await app.start()


def test_only_postgresql_has_replicas() -> None:
    with pytest.raises(ValueError, match="only PostgreSQL has them"):
        Application("sqlite:///orders.db", replica_url="sqlite:///copy.db")
