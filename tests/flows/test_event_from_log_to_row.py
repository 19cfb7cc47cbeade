"""How an event comes from the log into the row of a read model.

1. A worker holds the read model's segments by lease, and reads the log in chunks, behind the segment's checkpoint.
   Positions have no gaps and never change, so nothing can appear behind it.
2. For each event the projection says which row it is about. The worker loads the rows of a whole batch with one query.
3. It folds the batch: `row, event -> row`, pure code without I/O.
4. One transaction writes the rows and moves the checkpoint, if the segment is still the worker's. So each event takes
   effect exactly once, whatever crashes.
5. Queries that wait for the position are woken, in this process and in others.
6. An event on which the projection fails is tried again, then parked with the later events of its row; other rows go
   on. Once the code is mended, an operator releases them, and they are folded in order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

import pytest
from tests.flows.bank import Balance, Balances, Deposited, Opened, build

from twofold import Application, on

TIMEOUT = 60.0


class Flawed(Balances):
    """A projection with a mistake: it does not know what to do with cents."""

    is_flawed = True

    @on(Deposited)
    def deposited(self, row: Balance, event: Deposited) -> Balance:
        if self.is_flawed and event.amount % 1:
            raise ValueError("no cents, please")
        return replace(row, amount=row.amount + event.amount, deposits=row.deposits + 1)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep the warnings about the flawed projection out of the test's output."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


async def append(app: Application, *amounts: str, account: str = "ann") -> int:
    """Append deposits; return the position of the last one."""
    receipt = await app.store.append([Deposited(account=account, amount=Decimal(amount)) for amount in amounts])
    return receipt.position


async def test_rows_follow_from_events_in_the_order_of_the_log(url: str) -> None:
    bank = build(url)
    async with bank.app as app:
        await app.store.append([Opened(account="ann"), Opened(account="bob")])
        await append(app, "1", "2", "3")
        position = await append(app, "10", account="bob")
        await app.projections.wait(position, TIMEOUT)

        assert await bank.balances.get("ann") == Balance("ann", Decimal(6), 3)
        assert await bank.balances.get("bob") == Balance("bob", Decimal(10), 1)


async def test_two_processes_share_the_work_and_each_event_takes_effect_once(url: str) -> None:
    one, two = build(url), build(url)
    async with one.app, two.app:
        await one.app.store.append([Opened(account="ann")])
        await asyncio.gather(*(append(bank.app, "1") for bank in (one, two) for _ in range(50)))
        await one.app.projections.wait(await one.app.store.head(), TIMEOUT)

        assert await two.balances.get("ann") == Balance("ann", Decimal(100), 100)


async def test_a_read_model_goes_on_behind_its_checkpoint_after_a_restart(url: str) -> None:
    async with build(url).app as app:
        await app.store.append([Opened(account="ann")])
        await app.projections.wait(await append(app, "1"), TIMEOUT)

    async with build(url, synchronize=False).app as app:  # a process that leaves the read models to others
        await append(app, "2")

    bank = build(url)
    async with bank.app as app:
        await app.projections.wait(await app.store.head(), TIMEOUT)
        assert await bank.balances.get("ann") == Balance("ann", Decimal(3), 2)


async def test_an_event_that_fails_is_parked_with_the_later_ones_of_its_row_and_released_in_order(url: str) -> None:
    flawed = Flawed()
    bank = build(url, projection=flawed)
    async with bank.app as app:
        await app.store.append([Opened(account="ann"), Opened(account="bob")])
        await append(app, "1", "0.50", "2")
        position = await append(app, "10", account="bob")
        await app.projections.wait(position, TIMEOUT)

        assert await bank.balances.get("ann") == Balance("ann", Decimal(1), 1)  # up to the event that failed
        assert await bank.balances.get("bob") == Balance("bob", Decimal(10), 1)  # another row goes on
        parked = await app.projections.control("balances").parked()
        assert [(each.position, each.key) for each in parked] == [(4, '["ann"]'), (5, '["ann"]')]
        assert "no cents" in parked[0].cause
        [status] = await app.projections.status()
        assert (status.parked, bool(status.problems)) == (2, True)

        flawed.is_flawed = False  # deployed: the mended code
        assert await app.projections.control("balances").retry() == 2
        async with asyncio.timeout(TIMEOUT):
            while await bank.balances.get("ann") != Balance("ann", Decimal("3.50"), 3):
                await app.projections.status()
        assert await app.projections.control("balances").parked() == []
