"""Answers that follow their read models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest
import pytest_asyncio
from tests.accounts import Balance, Balances, Deposit, GetBalance, Open, wire

from twofold import Application, Query, QueryBus
from twofold.errors import HandlerNotFoundError
from twofold.messages.query import Answer
from twofold.options import QueryOptions
from twofold.queries.watch import watch

Answers = AsyncGenerator[Answer[Balance | None] | None]


@pytest_asyncio.fixture
async def app(url: str) -> AsyncIterator[Application]:
    app = Application(url)
    wire(app)
    balances = app.projections.add(Balances())

    async def answer(query: GetBalance) -> Balance | None:
        return await balances.get(query.account)

    app.queries.register(GetBalance, answer)
    async with app:
        yield app


def following(app: Application, after: int = 0, heartbeat: float = 20.0) -> Answers:
    return watch(app.queries, GetBalance("a"), after=after, heartbeat=heartbeat, options=QueryOptions(watch_pause=0))


async def shown(answers: Answers) -> Answer[Balance | None]:
    answer = await anext(answers)
    assert answer is not None
    return answer


async def visible(app: Application, position: int) -> None:
    await app.projections.wait(position, 20)


async def test_the_answer_comes_at_once_and_then_each_that_differs(app: Application) -> None:
    async with aclosing(following(app)) as answers:
        assert await shown(answers) == Answer(None)
        await app.commands.execute(Open(account="a"))
        assert await shown(answers) == Answer(Balance("a", "ann"))
        await app.commands.execute(Open(account="b"))
        await app.commands.execute(Deposit(account="a"))
        answer = await shown(answers)
        assert answer.value
        assert answer.value.changes == 1


async def test_who_takes_answers_slowly_gets_the_latest(app: Application) -> None:
    await app.commands.execute(Open(account="a"))
    async with aclosing(following(app)) as answers:
        await shown(answers)
        for _ in range(50):
            receipt = await app.commands.execute(Deposit(account="a"))
        await visible(app, receipt.position)
        answer = await shown(answers)
        assert answer.position == receipt.position
        assert answer.value
        assert answer.value.changes == 50


async def test_it_goes_on_behind_what_was_seen(app: Application) -> None:
    await visible(app, (await app.commands.execute(Open(account="a"))).position)
    async with aclosing(following(app)) as answers:
        seen = await shown(answers)
    async with aclosing(following(app, after=seen.position)) as answers:
        coming = asyncio.ensure_future(anext(answers))
        await app.commands.execute(Deposit(account="a"))
        answer = await coming
        assert answer
        assert answer.value
        assert answer.value.changes == 1


async def test_when_nothing_changes_it_tells_that_it_is_still_there(app: Application) -> None:
    async with aclosing(following(app, heartbeat=0.02)) as answers:
        await shown(answers)
        assert [await anext(answers) for _ in range(2)] == [None, None]


async def test_a_query_that_reads_nothing_cannot_be_followed() -> None:
    class Count(Query[int]):
        pass

    async def count(query: Count) -> int:
        return 1

    bus = QueryBus()
    with pytest.raises(HandlerNotFoundError):
        await anext(watch(bus, Count()))
    bus.register(Count, count)
    with pytest.raises(TypeError, match="Count reads no projection"):
        await anext(watch(bus, Count()))
