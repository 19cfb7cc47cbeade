"""Read models of several tenants: rows, pages, sums, watches and reactions are each tenant's own, on every path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import pytest
from tests.accounts import Balance, Balances, Deposit, Deposited, GetBalance, Open, Opened, wire
from tests.synchronizing import PATIENCE, quick, until

from twofold import (
    Application,
    Event,
    FullText,
    GroupedProjection,
    InvalidProjectionError,
    Key,
    Metadata,
    Options,
    Reaction,
    ReadModel,
    ReadPolicy,
    SqlProjection,
    TenantMissingError,
    UnknownFieldError,
    WhenLate,
    all_tenants,
    current_metadata,
    metadata,
    on,
    watch,
)
from twofold.engines.duckdb import DuckDbReadDatabase
from twofold.options import QueryOptions
from twofold.processes import Process, ScheduledCommands, starts
from twofold.projections.runner import ProjectionKind
from twofold.queries.shared_looks import SharedLooks

ACME, ZEN = "acme", "zen"


@dataclass(frozen=True)
class Note:
    account: Annotated[str, Key()]
    number: Annotated[int, Key()]
    text: Annotated[str, FullText()]


class Notes(GroupedProjection[Note]):
    name = "notes"

    @on(Opened)
    def opened(self, event: Opened) -> tuple[Note, ...]:
        return (Note(event.account, 0, f"opened for {event.owner}"),)

    @on(Deposited)
    def deposited(self, rows: tuple[Note, ...] | None, event: Deposited) -> tuple[Note, ...]:
        return (*(rows or ()), Note(event.account, len(rows or ()), f"deposited {event.amount} tokens"))


class Told(Reaction):
    name = "told"

    def __init__(self) -> None:
        self.told: list[tuple[str | None, str]] = []

    def handles(self) -> tuple[type, ...]:
        return (Opened,)

    async def apply(self, event: Opened) -> None:
        self.told.append((current_metadata().tenant, event.account))


class Welcome(Process[int]):
    """Gives one to each new account."""

    name, initial = "welcome", 0

    @starts(Opened, key="account")
    def give(self, state: int, event: Opened) -> Any:
        yield Deposit(account=event.account, amount=Decimal(1))

    def is_completed(self, state: int) -> bool:
        return False


def of(tenant: str) -> AbstractContextManager[Metadata]:
    return metadata(tenant=tenant)


def application(url: str, **options: Any) -> Application:
    app = Application(url, tenants=True, options=Options(synchronizer=quick()), **options)
    wire(app)
    return app


@asynccontextmanager
async def with_balances(
    url: str, kind: ProjectionKind = "asynchronous", **options: Any
) -> AsyncIterator[tuple[Application, ReadModel[Balance]]]:
    app = application(url, **options)
    balances = app.projections.add(Balances(), kind=kind)

    async def balance(query: GetBalance) -> Balance | None:
        return await balances.get(query.account)

    app.queries.register(GetBalance, balance)
    async with app:
        yield app, balances


async def fill(app: Application) -> None:
    """Let both tenants have an account `a`, and zen one of its own."""
    for tenant, amount, accounts in ((ACME, 1, "a"), (ZEN, 1000, "az")):
        with of(tenant):
            for account in accounts:
                await app.commands.dispatch(Open(account=account, owner=tenant))
                receipt = await app.commands.execute(Deposit(account=account, amount=Decimal(amount)))
                await app.projections.wait(receipt, PATIENCE)


@pytest.mark.parametrize("kind", ["asynchronous", "inline", "on_demand"])
async def test_rows_pages_and_sums_are_the_tenants_own(url: str, kind: ProjectionKind) -> None:
    async with with_balances(url, kind) as (app, balances):
        await fill(app)
        with of(ACME):
            assert await balances.get("a") == Balance("a", ACME, Decimal(1), 1)
            assert await balances.get("z") is None
            page = await balances.page(sort="amount", descending=True)
            assert ([row.account for row in page.items], page.total) == (["a"], 1)
            assert (await balances.page(where=[("owner", "=", ZEN)])).total == 0
            [total] = await balances.totals(by=(), of="amount")
            assert (total.count, total.sum) == (1, Decimal(1))
        with of(ZEN):
            assert await balances.get("a") == Balance("a", ZEN, Decimal(1000), 1)
            first = await balances.page(page_size=1)
            assert ([row.account for row in first.items], first.total) == (["a"], 2)
            second = await balances.page(page_size=1, cursor=first.next_cursor)
            assert [row.account for row in second.items] == ["z"]
        with of(ACME):
            assert (await balances.page(page_size=5, cursor=first.next_cursor)).items == []
        with of("new"):
            assert (await balances.page()).total == 0


async def test_the_column_that_says_whose_a_row_is_cannot_be_asked_about(url: str) -> None:
    async with with_balances(url) as (app, balances):
        await fill(app)
        with of(ACME):
            for question in (
                balances.page(where=[("twofold_tenant", "=", ZEN)]),
                balances.page(sort="twofold_tenant"),
                balances.totals(by=["twofold_tenant"], of="amount"),
            ):
                with pytest.raises(UnknownFieldError) as refused:
                    await question
                assert "twofold_tenant," not in str(refused.value)


async def test_without_a_tenant_no_row_is_read_and_operators_say_that_they_read_all(url: str) -> None:
    async with with_balances(url) as (app, balances):
        await fill(app)
        for question in (balances.get("a"), balances.page(), balances.totals(by=(), of="amount")):
            with pytest.raises(TenantMissingError):
                await question
        for operation in (
            app.projections.status, app.processes.status, lambda: app.projections.control("balances"),
            lambda: app.processes.control("welcome"), lambda: app.projections.databases,
        ):  # fmt: skip
            for block in (metadata(), of(ACME)):
                with block, pytest.raises(TenantMissingError, match="concerns all tenants"):
                    found: Any = operation()
                    await found
        with all_tenants():
            assert (await balances.page()).total == 3
            [status] = await app.projections.status()
            assert not status.problems
            with pytest.raises(TenantMissingError, match="runs on behalf of all"):
                await balances.get("a")


async def test_a_query_is_late_folded_and_watched_for_its_own_tenant(url: str) -> None:
    async with with_balances(url, synchronize=False) as (app, _):
        with of(ZEN):
            await app.commands.dispatch(Open(account="a", owner=ZEN))
        with of(ACME):
            receipt = await app.commands.execute(Open(account="a", owner=ACME))
            policy = ReadPolicy(0.01, WhenLate.OVERLAY)
            answer = await app.queries.ask(GetBalance("a"), after=receipt, policy=policy)
            assert answer.value == Balance("a", ACME)
    async with with_balances(url) as (app, _):
        looks = SharedLooks(app.store._of_all.log, QueryOptions(watch_pause=0))
        both = []
        for tenant in (ACME, ZEN):
            with of(tenant):
                await app.projections.wait(receipt, PATIENCE)
                answers = watch(app.queries, GetBalance("a"), heartbeat=0.2, looks=looks)
                both.append((tenant, answers))
                seen: Any = await anext(answers)
                assert seen.value.owner == tenant
        for tenant, answers in both:
            async with aclosing(answers):
                with of(tenant):
                    await app.commands.dispatch(Deposit(account="a"))
                    changed: Any = None
                    async with asyncio.timeout(PATIENCE):
                        while changed is None or not changed.value.changes:
                            changed = await anext(answers)
                assert changed.value.owner == tenant


async def test_two_tenants_who_ask_the_same_at_one_moment_do_not_share_a_look(url: str) -> None:
    async with with_balances(url) as (app, _):
        await fill(app)
        looks = SharedLooks(app.store._of_all.log)
        watched: dict[str, Any] = {}
        for tenant in (ACME, ZEN):
            with of(tenant):
                watched[tenant] = watch(app.queries, GetBalance("a"), heartbeat=0.5, looks=looks)
                await anext(watched[tenant])
        for _ in range(3):
            changes = {}
            for tenant in (ACME, ZEN):
                with of(tenant):
                    changes[tenant] = asyncio.create_task(anext(watched[tenant]))
            for tenant in (ACME, ZEN):
                with of(tenant):
                    await app.commands.dispatch(Deposit(account="a"))
            for tenant, change in changes.items():
                answer = await change
                assert answer is None or answer.value.owner == tenant
        for answers in watched.values():
            await answers.aclose()


async def test_groups_of_rows_and_their_texts_are_the_tenants_own(url: str) -> None:
    app = application(url)
    notes = app.projections.add(Notes())
    async with app:
        await fill(app)
        with of(ACME):
            assert [row.text for row in (await notes.page()).items] == ["opened for acme", "deposited 1 tokens"]
            assert [row.text for row in (await notes.page(search="tokens")).items] == ["deposited 1 tokens"]
            assert (await notes.page(search="zen")).total == 0
        with of(ZEN):
            assert (await notes.page(search="tokens")).total == 2


async def test_a_field_is_found_by_an_index_of_the_tenants_own_rows(url: str) -> None:
    async with with_balances(url) as (app, _):
        with all_tenants():
            [database] = app.projections.databases
        if url.startswith("sqlite"):
            [[sql]] = await database.query("SELECT sql FROM sqlite_master WHERE name LIKE '%_by_owner'")
        else:
            [[sql]] = await database.query("SELECT indexdef FROM pg_indexes WHERE indexname LIKE '%_by_owner'")
        assert "(twofold_tenant, owner" in sql.replace('"', "")


async def test_a_rebuild_gives_each_tenant_its_rows_again(url: str) -> None:
    async with with_balances(url) as (app, balances):
        await fill(app)
        with all_tenants():
            report = await app.projections.rebuild_projection("balances", expect_same=True)
        assert (report.missing, report.added, report.rows_after) == (0, 0, 3)
        with of(ZEN):
            assert (await balances.page()).total == 2


async def test_segments_divide_rows_of_tenants_and_a_parked_event_holds_up_its_own_tenant_only(url: str) -> None:
    class Fragile(Balances):
        is_broken = True

        @on(Deposited)
        def deposited(self, row: Balance, event: Deposited) -> Balance:
            if self.is_broken and event.amount == 1000:
                raise ValueError("of zen")
            return Balances.deposited(self, row, event)

    app = application(url)
    fragile = Fragile()
    balances = app.projections.add(fragile)
    async with app:
        with all_tenants():
            await app.projections.control("balances").scale(4)
        await fill(app)
        with of(ACME):
            assert (await app.store.head(), await balances.get("a")) == (6, Balance("a", ACME, Decimal(1), 1))
        with of(ZEN):
            assert await balances.get("a") == Balance("a", ZEN)
        fragile.is_broken = False
        with all_tenants():
            control = app.projections.control("balances")
            assert {each.key for each in await control.parked()} == {'["zen","a"]', '["zen","z"]'}
            await control.retry()

        async def is_retried() -> bool:
            with of(ZEN):
                return await balances.get("a") == Balance("a", ZEN, Decimal(1000), 1)

        await until(is_retried)


async def test_a_reaction_runs_on_behalf_of_its_events_tenant(url: str) -> None:
    app, told = application(url), Told()
    app.projections.add(told)
    async with app:
        await fill(app)
        assert told.told == [(ACME, "a"), (ZEN, "a"), (ZEN, "z")]


async def test_processes_have_instances_for_each_tenant_and_act_on_its_behalf(url: str) -> None:
    app = application(url)
    balances = app.projections.add(Balances())
    app.processes.add(Welcome())
    async with app:
        for tenant in (ACME, ZEN):
            with of(tenant):
                await app.commands.dispatch(Open(account="a", owner=tenant))
        for tenant in (ACME, ZEN):

            async def is_welcomed(tenant: str = tenant) -> bool:
                with of(tenant):
                    return await balances.get("a") == Balance("a", tenant, Decimal(1), 1)

            await until(is_welcomed)
            with of(tenant):
                assert {each.type for each in [each async for each in app.store.read()]} == {"Opened", "Deposited"}
        with all_tenants():
            assert [each.id for each in await app.processes.control("welcome").list()] == ["acme/a", "zen/a"]


async def test_scheduled_commands_are_listed_cancelled_and_carried_out_for_their_tenant(url: str) -> None:
    app = application(url)
    app.processes.add(ScheduledCommands())
    async with app:
        command = Open(account="a")
        for tenant in (ACME, ZEN):
            with of(tenant):
                assert await app.commands.schedule(command, after=timedelta(hours=1)) == str(command.command_id)

        async def both_wait() -> bool:
            found = []
            for tenant in (ACME, ZEN):
                with of(tenant):
                    found += [each.id for each in await app.commands.scheduled()]
            return found == [str(command.command_id)] * 2

        await until(both_wait)
        with of("new"):
            assert await app.commands.scheduled() == []
        with of(ACME):
            assert await app.commands.cancel_scheduled(str(command.command_id))
            assert await app.commands.scheduled() == []
        with of(ZEN):
            assert len(await app.commands.scheduled()) == 1
            soon = await app.commands.schedule(Open(account="soon", owner=ZEN), after=timedelta(0))
            assert soon

            async def is_opened() -> bool:
                return bool([each async for each in app.store.read_stream("Account-soon")])

            await until(is_opened)


def test_sql_of_its_own_says_that_it_keeps_tenants_apart() -> None:
    class Revenue(SqlProjection):
        name, tables = "revenue", ("revenue",)

        def handles(self) -> tuple[type, ...]:
            return (Deposited,)

        def create(self, connection: Any) -> None:
            connection.execute(f"CREATE TABLE {self.table('revenue')} (tenant TEXT, amount TEXT)")

        async def apply(self, event: Deposited, connection: Any) -> None:
            """Write nothing."""

    class Apart(Revenue):
        keeps_tenants_apart = True

    app = Application("memory://", tenants=True)
    with pytest.raises(InvalidProjectionError, match="keeps_tenants_apart = True"):
        app.projections.add(Revenue())
    app.projections.add(Apart())
    Application("memory://").projections.add(Revenue())


async def test_rows_in_a_database_for_reports_are_the_tenants_own(tmp_path: Path) -> None:
    app = application(f"sqlite:///{tmp_path / 'log.db'}")
    balances = app.projections.add(Balances(), database=DuckDbReadDatabase(tmp_path / "reports.duckdb"))
    async with app:
        await fill(app)
        with of(ACME):
            assert [row.owner for row in (await balances.page()).items] == [ACME]
            [total] = await balances.totals(by=["owner"], of="amount")
            assert (total.by, total.sum) == ((ACME,), Decimal(1))
            assert await balances.get("z") is None


@dataclass(frozen=True, kw_only=True)
class Renamed(Event):
    owner: str
    to: str


class Holders(Balances):
    """An event of it is about all rows with one owner, whatever these are."""

    name = "holders"

    @on(Renamed, where={"owner": "owner"})
    def renamed(self, row: Balance, event: Renamed) -> Balance:
        return replace(row, owner=event.to)


@pytest.mark.parametrize("kind", ["asynchronous", "inline", "on_demand"])
async def test_an_event_finds_the_rows_of_its_own_tenant_also_where_events_of_others_are_parked(
    url: str, kind: ProjectionKind
) -> None:
    class Fragile(Holders):
        is_broken = kind == "asynchronous"

        @on(Deposited)
        def deposited(self, row: Balance, event: Deposited) -> Balance:
            if self.is_broken:
                raise ValueError("not yet")
            return Balances.deposited(self, row, event)

    app, fragile = application(url), Fragile()
    holders = app.projections.add(fragile, kind=kind)
    async with app:
        for tenant in (ZEN, ACME):
            with of(tenant):
                for account in "ab":
                    await app.commands.dispatch(Open(account=account, owner="ann"))
                await app.commands.dispatch(Deposit(account="a"))
        with of(ACME):
            receipt = await app.store.append([Renamed(owner="ann", to="eve")])
            await app.projections.wait(receipt, PATIENCE)
        fragile.is_broken = False
        if kind == "asynchronous":
            with all_tenants():
                assert {each.key for each in await app.projections.control("holders").parked()} == {
                    '["zen","a"]', '["acme","a"]',
                }  # fmt: skip
                await app.projections.control("holders").retry()

        async def owners(tenant: str) -> list[tuple[str, int]]:
            with of(tenant):
                return [(row.owner, row.changes) for row in (await holders.page()).items]

        async def is_done() -> bool:
            return (await owners(ACME), await owners(ZEN)) == ([("eve", 1), ("eve", 0)], [("ann", 1), ("ann", 0)])

        await until(is_done)
        if kind == "asynchronous":
            with all_tenants():
                assert await app.projections.control("holders").parked() == []
