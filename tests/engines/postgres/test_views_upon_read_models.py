"""Views of the users' own upon the view of a read model: a new version takes them along, or says what is in the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

import pytest
import pytest_asyncio
from tests.accounts import Deposited, Opened
from tests.synchronizing import PATIENCE, deposited, opened, quick, running, until, write

from twofold import EventStore, Key, Projection, ReadModelSynchronizer, on
from twofold.engines.engine import Engine
from twofold.errors import RebuildFailedError


@dataclass(frozen=True)
class Sum:
    account: Annotated[str, Key()]
    owner: str
    amount: Decimal = Decimal(0)


@dataclass(frozen=True)
class SumAndCount:
    count: int
    account: Annotated[str, Key()]
    owner: str
    amount: Decimal = Decimal(0)


@dataclass(frozen=True)
class SumOnly:
    account: Annotated[str, Key()]
    amount: Decimal = Decimal(0)


class Sums(Projection[Sum]):
    name = "sums"

    @on(Opened)
    def opened(self, event: Opened) -> Sum:
        return Sum(event.account, event.owner)

    @on(Deposited)
    def deposited(self, row: Sum, event: Deposited) -> Sum:
        return Sum(row.account, row.owner, row.amount + event.amount)


class WithCount(Projection[SumAndCount]):
    name, version = "sums", 2

    @on(Opened)
    def opened(self, event: Opened) -> SumAndCount:
        return SumAndCount(0, event.account, event.owner)

    @on(Deposited)
    def deposited(self, row: SumAndCount, event: Deposited) -> SumAndCount:
        return SumAndCount(row.count + 1, row.account, row.owner, row.amount + event.amount)


class WithoutOwner(Projection[SumOnly]):
    name, version = "sums", 2

    @on(Opened)
    def opened(self, event: Opened) -> SumOnly:
        return SumOnly(event.account)

    @on(Deposited)
    def deposited(self, row: SumOnly, event: Deposited) -> SumOnly:
        return SumOnly(row.account, row.amount + event.amount)


@pytest_asyncio.fixture
async def first(engine: Engine, store: EventStore) -> AsyncIterator[ReadModelSynchronizer]:
    """Return the synchronizer of the first version, which has built its read model; a view and a copy are upon that."""
    synchronizer = ReadModelSynchronizer(store, engine.read_database, [Sums()], options=quick(lease=1.0))
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a"), deposited("a", 5)), PATIENCE)
    async with engine.read_database.transaction() as transaction:
        await transaction.run("CREATE VIEW owners AS SELECT owner, amount FROM sums")
        await transaction.run("CREATE MATERIALIZED VIEW copies AS SELECT * FROM owners")
    yield synchronizer


async def upgrade(engine: Engine, store: EventStore, projection: Projection[Any]) -> ReadModelSynchronizer:
    synchronizer = ReadModelSynchronizer(store, engine.read_database, [projection], options=quick(lease=1.0))
    await synchronizer.prepare()
    return synchronizer


async def test_a_version_with_more_columns_takes_the_views_upon_it_along(
    first: ReadModelSynchronizer, engine: Engine, store: EventStore
) -> None:
    second = await upgrade(engine, store, WithCount())
    async with running(second):
        await second.rebuild_projection("sums")
        await second.wait(await write(store, deposited("a", 2)), PATIENCE)
    query = engine.read_database.query
    assert await query("SELECT * FROM owners") == [("ann", Decimal(7))]
    assert await query("SELECT * FROM sums") == [("a", "ann", Decimal(7), 2)]
    assert await query("SELECT * FROM copies") == [("ann", Decimal(5))]


async def test_a_version_that_lacks_what_views_show_does_not_serve_and_says_what_is_in_its_way(
    first: ReadModelSynchronizer, engine: Engine, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")
    second = await upgrade(engine, store, WithoutOwner())

    async def is_refused() -> bool:
        return bool((await first.status())[0].problems)

    async with running(second), running(first):
        await until(is_refused)
        [problem] = (await first.status())[0].problems
        assert problem == (
            "the next generation does not serve: the view sums has to go, and others depend on it (view owners depends "
            "on view sums; materialized view copies depends on view owners); drop those, build the read model again, "
            "and make them again upon its view"
        )
        await first.wait(await write(store, deposited("a", 2)), PATIENCE)
        assert await engine.read_database.query("SELECT * FROM owners") == [("ann", Decimal(7))]
        with pytest.raises(RebuildFailedError, match="view owners depends on view sums"):
            await second.rebuild_projection("sums")
        async with engine.read_database.transaction() as transaction:
            await transaction.run("DROP VIEW owners CASCADE")
        await second.rebuild_projection("sums")
        assert await engine.read_database.query("SELECT * FROM sums") == [("a", Decimal(7))]
        assert (await second.status())[0].problems == []


async def test_a_generation_that_others_hold_on_to_is_named(
    first: ReadModelSynchronizer, engine: Engine, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Views upon the table of a generation keep it from being dropped; they belong upon the view."""
    caplog.set_level("CRITICAL")
    async with engine.read_database.transaction() as transaction:
        await transaction.run("CREATE VIEW wrong AS SELECT owner FROM sums__1")
    async with running(first):
        await first.rebuild_projection("sums")
        with pytest.raises(RebuildFailedError, match="view wrong depends on table sums__1"):
            await first.rebuild_projection("sums")
        async with engine.read_database.transaction() as transaction:
            await transaction.run("DROP VIEW wrong")
        await first.rebuild_projection("sums")
