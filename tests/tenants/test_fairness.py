"""Fairness: the backlog of one tenant does not starve the others in a read model that all of them share."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, ClassVar

import pytest
from tests.accounts import Balance, Balances, Deposit, Deposited, Open, Opened, wire
from tests.synchronizing import PATIENCE, quick, running, until

from twofold import (
    ANY,
    Application,
    Key,
    Options,
    PaginatedResult,
    Projection,
    Query,
    Reaction,
    ReadModel,
    ReadPolicy,
    StaleReadError,
    WhenLate,
    all_tenants,
    metadata,
    on,
)
from twofold.options import LogOptions
from twofold.projections.projection import OnFailure
from twofold.projections.runner import ProjectionKind
from twofold.synchronizer.status import ProjectionStatus

FLOOD, SMALL = "acme", "globex"


@dataclass(frozen=True, kw_only=True)
class AllOf(Query[PaginatedResult[Balance]]):
    pass


@dataclass(frozen=True)
class Trail:
    account: Annotated[str, Key()]
    amounts: str = ""


class Trails(Projection[Trail]):
    """Remembers in which order the events of an account were folded."""

    name = "trails"

    @on(Opened)
    def opened(self, event: Opened) -> Trail:
        return Trail(event.account)

    @on(Deposited)
    def deposited(self, row: Trail, event: Deposited) -> Trail:
        return replace(row, amounts=f"{row.amounts} {event.amount}")


class SlowTrails(Trails):
    @on(Deposited)
    def deposited(self, row: Trail, event: Deposited) -> Trail:
        time.sleep(0.0002)
        return Trails.deposited(self, row, event)


class Flooded(Balances):
    """Comes no further with the rows of the tenant that floods it, as if each of its events took for ever."""

    on_failure: ClassVar[OnFailure] = "stop"
    is_flooded = True

    @on(Deposited)
    def deposited(self, row: Balance, event: Deposited) -> Balance:
        if self.is_flooded and event.amount == 1000:
            raise ValueError("of the flood")
        return Balances.deposited(self, row, event)


def application(url: str, *, far_behind: int = 20, **options: Any) -> Application:
    reading = LogOptions(first_batch=10, chunk_bytes=2500 if far_behind < 1000 else LogOptions.chunk_bytes)
    tuned = Options(log=reading, synchronizer=quick(far_behind=far_behind))
    app = Application(url, tenants=True, options=tuned, **options)
    wire(app)
    return app


async def flood(app: Application, count: int, tenant: str = FLOOD, amount: int | None = None) -> Any:
    """Append many deposits of one tenant at once."""
    with metadata(tenant=tenant):
        amounts = (Decimal(number if amount is None else amount) for number in range(count))
        events = [Opened(account="a"), *(Deposited(account="a", amount=each) for each in amounts)]
        return await app.store.append_events("Account-a", "Account", events, expected_version=ANY)


async def status_of(app: Application) -> ProjectionStatus:
    with all_tenants():
        [status] = await app.projections.status()
        return status


async def test_the_backlog_of_one_tenant_does_not_starve_the_others(url: str) -> None:
    app, projection = application(url), Flooded()
    balances: ReadModel[Balance] = app.projections.add(projection)

    async def all_of(query: AllOf) -> PaginatedResult[Balance]:
        return await balances.page()

    app.queries.register(AllOf, all_of, policy=ReadPolicy(wait=PATIENCE, then=WhenLate.REFUSE))
    async with app:
        await flood(app, 500, amount=1000)
        with metadata(tenant=SMALL):
            for amount in range(1, 4):
                await app.commands.dispatch(Open(account=str(amount)))
                receipt = await app.commands.execute(Deposit(account=str(amount), amount=Decimal(amount)))
                page = await app.queries.dispatch(AllOf(), after=receipt)
                assert [row.amount for row in page.items] == list(range(1, amount + 1))
                assert page.position >= receipt.position
            await app.projections.wait(receipt, PATIENCE)
        with metadata(tenant=FLOOD), pytest.raises(StaleReadError):  # the truth about itself
            await app.projections.wait(receipt, 0.2)
        with all_tenants(), pytest.raises(StaleReadError):
            await app.projections.wait(receipt, 0.2)
        status = await status_of(app)
        assert status.position < receipt.position
        assert status.lag
        [held] = [each for segment in status.segments for each in segment.held_back]
        assert (held.tenant, held.ahead >= receipt.position, held.position < receipt.position) == (FLOOD, True, True)
        projection.is_flooded = False
        with metadata(tenant=FLOOD):
            await app.projections.wait(receipt, PATIENCE)
            assert await balances.get("a") == Balance("a", "ann", Decimal(500_000), 500)
        assert not any(segment.held_back for segment in (await status_of(app)).segments)


async def test_rows_are_the_fold_of_the_log_whatever_is_done_while_tenants_are_held_back(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "twofold.synchronizer.segments.runner")
    chance, expected = random.Random(16), defaultdict[tuple[str, str], str](str)
    tenants = [FLOOD, "zen", *(f"t{number}" for number in range(10))]
    kinds: list[ProjectionKind] = ["asynchronous", "asynchronous", "inline", "asynchronous"]
    for turn, kind in enumerate(kinds):
        app = application(url)
        trails = app.projections.add(SlowTrails(), kind=kind)
        async with app:
            for flooding in (FLOOD, "zen"):
                receipt = await flood(app, 150, flooding)
                expected[flooding, "a"] = "".join(f" {number}" for number in range(150))  # opened again
            for number in range(25):
                tenant, account = chance.choice(tenants), chance.choice("bc")
                opening = [] if (tenant, account) in expected else [Opened(account=account)]
                events = [*opening, Deposited(account=account, amount=Decimal(turn * 100 + number))]
                with metadata(tenant=tenant):
                    receipt = await app.store.append_events(
                        f"Account-{account}", "Account", events, expected_version=ANY
                    )
                expected[tenant, account] += f" {turn * 100 + number}"
                with all_tenants():
                    if number == 5:
                        await app.projections.control("trails").scale((4, 1, 3, 2)[turn])
                    if number == 10 and turn == 1:
                        await app.projections.control("trails").rebuild()
            with metadata(tenant="t3"):
                await app.projections.wait(receipt, PATIENCE)
            if turn % 2:
                continue  # the next application finds it as it is left
            with all_tenants():
                await app.projections.wait(receipt, PATIENCE)
            for (tenant, account), amounts in expected.items():
                with metadata(tenant=tenant):
                    assert await trails.get(account) == Trail(account, amounts)
    assert "holds back" in caplog.text
    app = application(url)
    trails = app.projections.add(SlowTrails())
    async with app:
        with all_tenants():
            await app.projections.wait(receipt, PATIENCE)
        for (tenant, account), amounts in expected.items():
            with metadata(tenant=tenant):
                assert await trails.get(account) == Trail(account, amounts)


class Counted(Balances):
    """Notes how many events of the flood were folded before those of the others."""

    def __init__(self) -> None:
        super().__init__()
        self.flooded, self.before = 0, dict[Decimal, int]()

    @on(Deposited)
    def deposited(self, row: Balance, event: Deposited) -> Balance:
        if event.amount > 1:
            self.before[event.amount] = self.flooded
        else:
            self.flooded += 1
        return Balances.deposited(self, row, event)


async def test_an_event_behind_ten_thousand_of_another_tenant_is_in_within_a_few_steps(url: str) -> None:
    app, projection = application(url, far_behind=1000, synchronize=False), Counted()
    app.projections.add(projection)
    async with app:
        await flood(app, 10_000, amount=1)
        with metadata(tenant=SMALL):
            events = [Opened(account="b"), Deposited(account="b", amount=Decimal(7))]
            receipt = await app.store.append_events("Account-b", "Account", events, expected_version=ANY)
        with metadata(tenant=SMALL):
            async with running(app.projections):
                await app.projections.wait(receipt, PATIENCE)
    assert projection.before[Decimal(7)] <= 2000


async def _fold_until_killed(url: str) -> None:
    """Run a worker that takes its time, in a process of its own."""
    app = application(url)
    app.projections.add(SlowTrails())
    async with app:
        await asyncio.Event().wait()


async def test_no_kill_of_a_worker_loses_or_doubles_an_event_or_brings_it_out_of_order(url: str) -> None:
    app, expected = application(url, synchronize=False), defaultdict[str, str](str)
    trails = app.projections.add(SlowTrails())
    async with app:
        for start in range(0, 250, 20):
            for tenant, numbers in ((f"t{start % 3}", range(start, start + 1)), (FLOOD, range(start + 1, start + 20))):
                opening = [] if tenant in expected else [Opened(account="a")]
                events = [*opening, *(Deposited(account="a", amount=Decimal(number)) for number in numbers)]
                with metadata(tenant=tenant):
                    receipt = await app.store.append_events("Account-a", "Account", events, expected_version=ANY)
                expected[tenant] += "".join(f" {number}" for number in numbers)
        for kill in (True, False):
            before = await folded(trails)
            program = f"import asyncio\nfrom {__name__} import _fold_until_killed as run\nasyncio.run(run({url!r}))"
            worker = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
            try:
                if kill:
                    await until(partial(is_further, trails, before))
                else:
                    with all_tenants():
                        await app.projections.wait(receipt, PATIENCE)
            finally:
                worker.kill()
                await worker.wait()
        for tenant, amounts in expected.items():
            with metadata(tenant=tenant):
                assert await trails.get("a") == Trail("a", amounts)


async def folded(trails: ReadModel[Trail]) -> int:
    """Return how many events are in the rows of all tenants."""
    with all_tenants():
        return sum(len(row.amounts.split()) for row in (await trails.page()).items)


async def is_further(trails: ReadModel[Trail], before: int) -> bool:
    return await folded(trails) > before


async def test_what_fails_of_a_tenant_that_is_held_back_can_be_skipped_and_what_is_in_can_not(url: str) -> None:
    app, projection = application(url), Flooded()
    balances = app.projections.add(projection)
    async with app:
        first = await flood(app, 200, amount=1000)
        with metadata(tenant=SMALL):
            receipt = await app.commands.execute(Open(account="b"))
            await app.projections.wait(receipt, PATIENCE)
        with all_tenants():
            control = app.projections.control("balances")
            with pytest.raises(ValueError, match="is in the read model balances already"):
                await control.skip(int(receipt.position), reason="it is in")
            await control.skip(int(first.position) - 199, reason="the first of the flood")
        projection.is_flooded = False
        with metadata(tenant=FLOOD):
            await app.projections.wait(receipt, PATIENCE)
            assert await balances.get("a") == Balance("a", "ann", Decimal(199_000), 199)


class Told(Reaction):
    name = "told"

    def __init__(self) -> None:
        self.amounts = defaultdict[str, list[Decimal]](list)
        self.before = 0

    def key(self, event: Any) -> Any:
        return event.account

    def handles(self) -> tuple[type, ...]:
        return (Deposited,)

    async def apply(self, event: Deposited) -> None:
        self.amounts[event.account].append(event.amount)
        if event.account == "b":
            self.before = len(self.amounts["a"])


async def test_reactions_to_the_events_of_a_flood_do_not_hold_up_those_of_the_others(url: str) -> None:
    app, told = application(url, synchronize=False), Told()
    app.projections.add(told)
    async with app:
        await app.projections.prepare()
        await flood(app, 120)
        with metadata(tenant=SMALL):
            events = [Deposited(account="b", amount=Decimal(number)) for number in range(3)]
            receipt = await app.store.append_events("Account-b", "Account", events, expected_version=ANY)
        with all_tenants():
            async with running(app.projections):
                await app.projections.wait(receipt, PATIENCE)
    assert told.before <= 60
    assert told.amounts == {"a": list(map(Decimal, range(120))), "b": list(map(Decimal, range(3)))}
