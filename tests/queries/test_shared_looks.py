"""Watchers look again only when what they show has moved, and equal queries share one look."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, aclosing
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from tests.accounts import Balance, Balances, Deposit, GetBalance, Open, wire

from twofold import Application, EventQuery
from twofold.errors import StorageError
from twofold.messages.query import Answer
from twofold.options import QueryOptions
from twofold.queries.changes import Changes
from twofold.queries.scope import Scope
from twofold.queries.shared_looks import SharedLooks
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


async def waits(changes: Changes, scopes: Collection[Scope], after: int, patience: float) -> int | None:
    """Join, wait and leave."""
    watcher = changes.join(scopes, after)
    try:
        return await changes.wait(watcher, patience)
    finally:
        changes.leave(watcher)


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


async def test_events_are_read_once_for_all_and_only_the_newest_are_kept(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        receipt = await shop.app.commands.execute(Open(account=f"a{number}"))
    await shop.app.projections.wait(receipt.position, 30)
    head, log = await shop.app.store.head(), shop.app.store.log
    progress = shop.app.projections.progress["balances"]
    changes = Changes(log, [progress], QueryOptions(shared_events=5))
    types = [recorded.type async for recorded in shop.app.store.read(GET_ALL)]
    of_last = Scope(set(types), dict.fromkeys(types, ("account:a11",)))
    of_another = Scope(set(types), dict.fromkeys(types, ("account:b",)))
    of_other_types = Scope({"Unheard"}, {})
    everything = Scope(set(types), {})
    reads, read = Counter[int](), log.read

    async def counted(*arguments: Any, **options: Any) -> Any:
        reads[options["after"]] += 1
        return await read(*arguments, **options)

    monkeypatch.setattr(log, "read", counted)
    scopes = [of_last] + [of_another] * WATCHERS
    woken = await asyncio.gather(*(waits(changes, [scope], head - 3, 0.5) for scope in scopes))
    assert woken == [head] + [None] * WATCHERS
    assert reads[head - 3] == 1
    assert await waits(changes, [of_other_types, everything], head - 3, 30) == head
    assert await waits(changes, [of_other_types], head - 3, 0.1) is None
    assert await waits(changes, [of_another], 0, 30) == head  # not all of them are known
    monkeypatch.undo()
    too_many = Changes(log, [progress], QueryOptions(shared_events=5))
    assert await waits(too_many, [of_another], 1, 30) == head


async def test_watchers_are_woken_when_the_read_model_goes_back(shop: Shop) -> None:
    receipt = await shop.app.commands.execute(Open(account="a"))
    await shop.app.projections.wait(receipt.position, 30)
    changes = Changes(
        shop.app.store.log, [shop.app.projections.progress["balances"]], QueryOptions(poll=0.1, watch_poll=0.1)
    )
    waiting = asyncio.create_task(waits(changes, [Scope({"Unheard"}, {})], receipt.position, 30))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await shop.app.projections.rebuild_projection("balances")  # another generation answers, and no event tells of it
    assert await waiting == receipt.position


async def test_a_watcher_is_told_of_what_happens_between_two_waits(shop: Shop) -> None:
    receipt = await shop.app.commands.execute(Open(account="a"))
    await shop.app.projections.wait(receipt.position, 30)
    progress = shop.app.projections.progress["balances"]
    changes = Changes(shop.app.store.log, [progress], QueryOptions())
    mine = Scope(progress.handled, dict.fromkeys(progress.handled, ("account:a",)))
    watcher = changes.join([mine], receipt.position)
    assert await changes.wait(watcher, 0.1) is None
    await shop.app.commands.execute(Open(account="b"))
    passed = await shop.app.commands.execute(Deposit(account="a", amount=Decimal(1)))
    other = changes.join([Scope(progress.handled, {})], passed.position - 1)
    assert await changes.wait(other, 30) == passed.position  # by then the other one was told, too
    assert await changes.wait(watcher, 0) == passed.position
    for each in (watcher, other):
        changes.leave(each)


async def test_what_fails_is_told_to_all_who_wait_and_the_next_one_begins_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = await shop.app.commands.execute(Open(account="a"))
    await shop.app.projections.wait(receipt.position, 30)
    changes = Changes(shop.app.store.log, [shop.app.projections.progress["balances"]], QueryOptions())

    async def fail(*_: Any, **__: Any) -> Any:
        raise StorageError("away")

    everything = Scope({"Opened"}, {})
    with monkeypatch.context() as patched:
        patched.setattr(shop.app.store.log, "read", fail)
        waiting = [waits(changes, [everything], receipt.position - 1, 30) for _ in range(WATCHERS)]
        failed = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in failed] == [StorageError] * WATCHERS
    assert await waits(changes, [everything], receipt.position - 1, 30) == receipt.position
