"""How a read model is rebuilt while it serves.

1. A new generation is made: empty tables, with checkpoints of their own, in as many segments as there are workers.
2. All workers that have the code fill it from the log, in parallel. The serving generation goes on answering queries.
3. When it is nearly complete, it is verified: nothing parked, a sample of rows equal to a fresh fold of the log, and
   what the projection's own `verify` demands.
4. Takeover: both generations are brought to one position, and in one transaction the new one serves and the old one
   becomes the previous one.
5. The previous generation is kept in step with the log, so that a roll-back loses nothing, until it is dropped.
6. If the verification fails, the serving generation keeps serving, and the error says why.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from tests.flows.bank import Balance, Balances, Bank, Deposited, Opened, build

from twofold import on
from twofold.errors import RebuildFailedError

TIMEOUT = 60.0


class InCents(Balances):
    """The next version of the projection: the same events give other rows."""

    version = 2

    @on(Deposited)
    def deposited(self, row: Balance, event: Deposited) -> Balance:
        return replace(row, amount=row.amount + 100 * event.amount, deposits=row.deposits + 1)


class Demanding(Balances):
    """A projection that checks its rows before they serve."""

    async def verify(self, rebuilt: Any) -> None:
        raise ValueError("ann has less than yesterday")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


async def fill(bank: Bank, deposits: int = 50) -> None:
    """Store an account with deposits of 1, and wait until the read model shows it."""
    events = [Opened(account="ann"), *(Deposited(account="ann", amount=Decimal(1)) for _ in range(deposits))]
    receipt = await bank.app.store.append(events)
    await bank.app.projections.wait(receipt.position, TIMEOUT)


async def test_a_rebuild_gives_the_same_rows_and_queries_are_answered_all_the_while(url: str) -> None:
    bank = build(url)
    async with bank.app as app:
        await fill(bank)
        rebuilding = asyncio.create_task(app.projections.rebuild_projection("balances", expect_same=True))
        answers = [await bank.balances.get("ann")]
        while not rebuilding.done():
            answers.append(await bank.balances.get("ann"))

        report = await rebuilding
        assert (report.rows_after, report.sampled) == (1, 1)
        assert set(answers) == {Balance("ann", Decimal(50), 50)}
        assert await bank.balances.get("ann") == Balance("ann", Decimal(50), 50)


async def test_events_that_are_appended_during_a_rebuild_are_in_it(url: str) -> None:
    bank = build(url)
    async with bank.app as app:
        await fill(bank)
        rebuilding = asyncio.create_task(app.projections.rebuild_projection("balances"))
        appended = 0
        while not rebuilding.done():
            await app.store.append([Deposited(account="ann", amount=Decimal(1))])
            appended += 1
        await rebuilding
        await app.projections.wait(await app.store.head(), TIMEOUT)

        assert await bank.balances.get("ann") == Balance("ann", Decimal(50 + appended), 50 + appended)


async def test_a_new_version_is_built_at_the_start_and_takes_over_by_itself(url: str) -> None:
    bank = build(url)
    async with bank.app:
        await fill(bank)

    bank = build(url, projection=InCents())
    async with bank.app:
        async with asyncio.timeout(TIMEOUT):
            while await bank.balances.get("ann") != Balance("ann", Decimal(5000), 50):
                pass


async def test_the_previous_generation_is_in_step_and_can_serve_again(url: str) -> None:
    bank = build(url)
    async with bank.app as app:
        await fill(bank)
        await app.projections.rebuild_projection("balances")
        await app.store.append([Deposited(account="ann", amount=Decimal(1))])
        await app.projections.control("balances").roll_back()
        await app.projections.wait(await app.store.head(), TIMEOUT)

        assert await bank.balances.get("ann") == Balance("ann", Decimal(51), 51)


async def test_a_generation_that_fails_its_verification_never_serves(url: str) -> None:
    bank = build(url, projection=Demanding())
    async with bank.app as app:
        await fill(bank)
        with pytest.raises(RebuildFailedError, match="less than yesterday"):
            await app.projections.rebuild_projection("balances")

        assert await bank.balances.get("ann") == Balance("ann", Decimal(50), 50)
