"""Watchers look again only when what they show has moved, and equal queries share one look."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from decimal import Decimal

import pytest_asyncio
from tests.accounts import Balance, Balances, Deposit, GetBalance, Open, wire

from twofold import Application, EventQuery
from twofold.messages.query import Answer
from twofold.options import QueryOptions
from twofold.queries.shared_looks import Scope, SharedLooks
from twofold.queries.watch import watch

WATCHERS = 20
GET_ALL = EventQuery.all()


class Shop:
    """An application whose query handler counts what it is asked."""

    def __init__(self, url: str) -> None:
        self.app = Application(url)
        wire(self.app)
        self.balances = self.app.projections.add(Balances())
        self.asked = Counter[str]()
        self.app.queries.register(GetBalance, self.answer)
        self.looks = SharedLooks(self.app.store.log)

    async def answer(self, query: GetBalance) -> Balance | None:
        self.asked[query.account] += 1
        return await self.balances.get(query.account)

    async def watch(self, account: str, answers: asyncio.Queue[Answer[Balance | None]]) -> None:
        async with aclosing(watch(self.app.queries, GetBalance(account), looks=self.looks, heartbeat=600)) as watching:
            async for answer in watching:
                if answer is not None:
                    await answers.put(answer)


@pytest_asyncio.fixture
async def shop(url: str) -> AsyncIterator[Shop]:
    shop = Shop(url)
    async with shop.app:
        yield shop


async def watching(stack: AsyncExitStack, shop: Shop, account: str) -> asyncio.Queue[Answer[Balance | None]]:
    """Watch an account until the stack ends; return where its answers come."""
    answers: asyncio.Queue[Answer[Balance | None]] = asyncio.Queue()
    task = asyncio.create_task(shop.watch(account, answers))

    async def stop() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(stop)
    first = await asyncio.wait_for(answers.get(), 30)
    assert first.value
    return answers


async def test_watchers_of_other_rows_do_not_look_when_a_row_moves(shop: Shop) -> None:
    accounts = [f"a{n}" for n in range(WATCHERS)]
    for account in accounts:
        receipt = await shop.app.commands.execute(Open(account=account))
    await shop.app.projections.wait(receipt.position, 30)
    async with AsyncExitStack() as stack:
        queues = {account: await watching(stack, shop, account) for account in accounts}
        shop.asked.clear()
        for amount in range(1, 11):
            await shop.app.commands.execute(Deposit(account="a0", amount=Decimal(1)))
            answer = await asyncio.wait_for(queues["a0"].get(), 30)
            assert answer.value
            assert answer.value.changes == amount
    assert set(shop.asked) == {"a0"}
    assert shop.asked["a0"] <= 20
    assert all(queue.empty() for queue in queues.values())


async def test_equal_queries_share_one_look(shop: Shop) -> None:
    receipt = await shop.app.commands.execute(Open(account="a"))
    await shop.app.projections.wait(receipt.position, 30)
    async with AsyncExitStack() as stack:
        queues = [await watching(stack, shop, "a") for _ in range(WATCHERS)]
        shop.asked.clear()
        await shop.app.commands.execute(Deposit(account="a", amount=Decimal(1)))
        answers = await asyncio.gather(*(asyncio.wait_for(queue.get(), 30) for queue in queues))
    assert {answer.value.changes for answer in answers if answer.value} == {1}
    assert shop.asked["a"] <= 2


async def test_events_are_read_once_for_all_and_only_the_newest_are_kept(shop: Shop) -> None:
    for number in range(12):
        await shop.app.commands.execute(Open(account=f"a{number}"))
    head = await shop.app.store.head()
    looks = SharedLooks(shop.app.store.log, QueryOptions(shared_events=5))
    types = [recorded.type async for recorded in shop.app.store.read(GET_ALL)]
    of_last = Scope(set(types), dict.fromkeys(types, ("account:a11",)))
    of_another = Scope(set(types), dict.fromkeys(types, ("account:b",)))
    of_other_types = Scope({"Unheard"}, {})
    everything = Scope(set(types), {})
    assert await looks.concern(head - 3, head, [of_last])
    assert not await looks.concern(head - 3, head, [of_another])
    assert not await looks.concern(head - 3, head, [of_other_types])
    assert await looks.concern(head - 3, head, [of_other_types, everything])
    assert await looks.concern(0, head, [of_another])  # not all of them are known
    assert await looks.concern(head - 1, head + 1, [of_another])  # nor is what has not been read
