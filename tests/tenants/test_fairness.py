"""Fairness: the backlog of one tenant does not starve the others in a read model that all of them share."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Annotated, Any, ClassVar

import pytest
from tests.accounts import Balance, Balances, Deposit, Deposited, Open, Opened, wire
from tests.synchronizing import PATIENCE, quick

from twofold import (
    ANY,
    Application,
    Key,
    Options,
    PaginatedResult,
    Projection,
    Query,
    ReadModel,
    ReadPolicy,
    StaleReadError,
    WhenLate,
    all_tenants,
    metadata,
    on,
)
from twofold.projections.projection import OnFailure
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
        time.sleep(0.001)
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
    synchronizer = quick(far_behind=far_behind)
    app = Application(url, tenants=True, options=Options(synchronizer=synchronizer), **options)
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
