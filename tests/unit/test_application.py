"""An application in memory: all that applications do, in milliseconds and without a file."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import pytest
from tests.accounts import Balance, Balances, Deposit, Deposited, Open, Opened, wire

from twofold import Application, FullText, Index, Key, Projection, Query, ReadModel, on
from twofold.errors import ProjectionFailedError

PATIENCE = 10.0


@dataclass(frozen=True)
class Holder:
    account: Annotated[str, Key()]
    owner: Annotated[str, FullText(), Index()]
    amount: Decimal = Decimal(0)


class Holders(Projection[Holder]):
    name = "holders"
    mended = False

    @on(Opened)
    def opened(self, event: Opened) -> Holder:
        return Holder(event.account, event.owner)

    @on(Deposited)
    def deposited(self, row: Holder, event: Deposited) -> Holder:
        if event.amount == 13 and not self.mended:
            raise ArithmeticError("unlucky")
        return replace(row, amount=row.amount + event.amount)


@dataclass(frozen=True, kw_only=True)
class Richest(Query[Holder]):
    pass


class Bank:
    """An application in memory, wired."""

    def __init__(self) -> None:
        self.app = Application("memory://")
        self.projection = Holders()
        self.holders: ReadModel[Holder] = self.app.projections.add(self.projection)
        self.balances: ReadModel[Balance] = self.app.projections.add(Balances(), kind="inline")
        wire(self.app)

    async def fill(self, count: int = 5) -> int:
        for number in range(count):
            await self.app.commands.execute(Open(account=f"a{number}", owner=f"Ann Number {number}"))
        receipts = [
            await self.app.commands.execute(Deposit(account=f"a{number}", amount=Decimal(number + 1)))
            for number in range(count)
        ]
        await self.app.projections.wait(receipts[-1].position, PATIENCE)
        return receipts[-1].position


async def test_commands_and_queries_work_and_what_was_written_can_be_read(tmp_path: Path) -> None:
    bank = Bank()

    async def richest(query: Richest) -> Holder:
        return (await bank.holders.page(sort="amount", descending=True, page_size=1)).items[0]

    bank.app.queries.register(Richest, richest)
    async with bank.app:
        await bank.fill()
        receipt = await bank.app.commands.execute(Deposit(account="a0", amount=Decimal(100)))
        assert await bank.app.queries.dispatch(Richest(), after=receipt) == Holder("a0", "Ann Number 0", Decimal(101))
        again = await bank.app.commands.execute(Open(account="b"))
        assert again.position == receipt.position + 1


async def test_searches_pages_and_totals_work() -> None:
    bank = Bank()
    async with bank.app:
        await bank.fill()
        assert [row.account for row in (await bank.holders.page(search="numb 3")).items] == ["a3"]
        page = await bank.holders.page(where=[("amount", ">", 1)], sort="amount", page=2, page_size=3)
        assert ([row.account for row in page.items], page.total, page.total_pages) == (["a4"], 4, 2)
        [total] = await bank.holders.totals(by=[], of=["amount"])
        assert (total.count, total.sum) == (5, Decimal(15))


async def test_rows_of_an_inline_projection_are_there_when_the_command_returns() -> None:
    bank = Bank()
    async with bank.app:
        await bank.app.commands.execute(Open(account="a"))
        assert await bank.balances.get("a") == Balance("a", "ann", Decimal(0), 0)
        with pytest.raises(ProjectionFailedError):
            await bank.app.store.append([Deposited(account="nobody's", amount=Decimal(1))])
        assert await bank.app.store.head() == 1, "what an inline projection refuses is not stored"


async def test_an_event_that_fails_is_parked_and_comes_in_when_the_code_is_mended() -> None:
    bank = Bank()
    async with bank.app:
        await bank.fill()
        receipt = await bank.app.commands.execute(Deposit(account="a1", amount=Decimal(13)))
        await bank.app.projections.wait(receipt.position, PATIENCE)
        [parked] = await bank.app.projections.control("holders").parked()
        assert (parked.position, parked.key) == (11, '["a1"]')
        bank.projection.mended = True
        await bank.app.projections.control("holders").retry("a1")
        async with asyncio.timeout(PATIENCE):
            while (await bank.holders.get("a1")) != Holder("a1", "Ann Number 1", Decimal(15)):  # noqa: ASYNC110
                await asyncio.sleep(0.001)


async def test_a_read_model_is_rebuilt_and_rolled_back() -> None:
    bank = Bank()
    async with bank.app:
        await bank.fill()
        report = await bank.app.projections.rebuild_projection("holders", expect_same=True)
        assert (report.missing, report.added) == (0, 0)
        assert (await bank.holders.page()).total == 5
        await bank.app.projections.control("holders").roll_back()
        assert (await bank.holders.page()).total == 5


async def test_what_it_holds_is_there_after_a_restart_of_the_same_application() -> None:
    bank = Bank()
    async with bank.app:
        await bank.fill()
    async with bank.app:
        position = (await bank.app.commands.execute(Deposit(account="a0", amount=Decimal(1)))).position
        await bank.app.projections.wait(position, PATIENCE)
        assert await bank.holders.get("a0") == Holder("a0", "Ann Number 0", Decimal(2))
    async with Bank().app as other:
        assert await other.store.head() == 0, "each application has its own"


async def test_an_application_starts_carries_out_a_command_and_stops_in_milliseconds(tmp_path: Path) -> None:
    start = time.perf_counter()
    for _ in range(10):
        bank = Bank()
        async with bank.app:
            await bank.app.commands.execute(Open(account="a"))
            assert await bank.balances.get("a") is not None
    took = (time.perf_counter() - start) / 10
    print(f"{took * 1000:.1f} ms for an application that starts, carries out a command and stops")
    assert took < 0.5, "some 10 ms on a machine that does nothing else"
    assert list(tmp_path.iterdir()) == []
