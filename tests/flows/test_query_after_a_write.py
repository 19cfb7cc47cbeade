"""How a query shows what its caller has written.

1. The caller says what the answer must show: `after=` a receipt, or a consistency token over HTTP, or nothing.
2. The query bus finds the query's handler and its read policy: how long to wait, and what happens then.
3. The handler asks a read model. One whose projection handles none of the written types, or whose row has none of the
   written tags, need not show the position.
4. The read model waits until it believes that it has passed the position: its worker, in this process or another, wakes
   it with each step.
5. It reads the rows together with the position of their generation, from one snapshot; too low, it goes back to 4.
6. Too late, the policy decides: refuse with `StaleReadError`, answer stale and say how old the answer is, or fold the
   missing events over the stored row.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from tests.flows.bank import Balance, Deposit, GetBalance, Open, build

from twofold import ReadPolicy, WhenLate
from twofold.errors import StaleReadError


async def test_a_query_after_a_receipt_shows_what_was_written(url: str) -> None:
    bank = build(url)
    async with bank.app as app:
        await app.commands.dispatch(Open(account="ann"))
        for number in range(1, 11):
            receipt = await app.commands.execute(Deposit(account="ann", amount=Decimal(5)))
            answer = await app.queries.dispatch(GetBalance("ann"), after=receipt)
            assert answer == Balance("ann", Decimal(5 * number), number)


async def test_it_waits_for_a_worker_of_another_process(url: str) -> None:
    web, worker = build(url, synchronize=False), build(url)
    async with web.app, worker.app:
        receipt = await web.app.commands.execute(Open(account="ann"))
        assert await web.app.queries.dispatch(GetBalance("ann"), after=receipt, timeout=60) == Balance("ann")


async def test_too_late_it_is_refused_by_default(url: str) -> None:
    bank = build(url, synchronize=False)  # and no worker anywhere
    async with bank.app as app:
        receipt = await app.commands.execute(Open(account="ann"))
        with pytest.raises(StaleReadError):
            await app.queries.dispatch(GetBalance("ann"), after=receipt, timeout=0.1)


async def test_too_late_it_may_be_answered_stale_and_says_how_old_the_answer_is(url: str) -> None:
    bank = build(url, synchronize=False, policy=ReadPolicy(0.1, WhenLate.ANSWER_STALE))
    async with bank.app as app:
        receipt = await app.commands.execute(Open(account="ann"))
        answer = await app.queries.ask(GetBalance("ann"), after=receipt)

        assert (answer.value, answer.stale) == (None, True)
        assert answer.age is not None
        assert answer.age >= timedelta(0)


async def test_too_late_the_missing_events_may_be_folded_over_the_stored_row(url: str) -> None:
    async with build(url).app as app:
        receipt = await app.commands.execute(Open(account="ann"))
        await app.projections.wait(receipt.position, 60)

    bank = build(url, synchronize=False, policy=ReadPolicy(0.0, WhenLate.OVERLAY))
    async with bank.app as app:
        receipt = await app.commands.execute(Deposit(account="ann", amount=Decimal(5)))
        answer = await app.queries.ask(GetBalance("ann"), after=receipt)

        assert (answer.value, answer.stale) == (Balance("ann", Decimal(5), 1), False)
        assert await bank.balances.get("ann") == Balance("ann")  # the stored row is as it was


async def test_what_has_nothing_to_do_with_the_answer_is_not_waited_for(url: str) -> None:
    bank = build(url, synchronize=False)
    async with bank.app as app:
        receipt = await app.commands.execute(Open(account="ann"))
        answer = await app.queries.ask(GetBalance("bob"), after=receipt, timeout=0)

        assert (answer.value, answer.stale) == (None, False)
