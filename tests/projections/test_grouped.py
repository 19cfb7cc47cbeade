"""A grouped projection keeps any number of rows for what an event is about."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

import pytest
from tests.synchronizing import PATIENCE, QUICK, running, write

from twofold import Event, EventStore, GroupedProjection, Key, ReadModel, ReadModelSynchronizer, on
from twofold.engines.engine import Engine, scratch_database
from twofold.messages.session import WriteToken
from twofold.ports.read_database import Total
from twofold.queries.consistency import Asking


@dataclass(frozen=True, kw_only=True)
class Ordered(Event):
    order: str
    products: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Priced(Event):
    order: str
    product: str
    price: Decimal


@dataclass(frozen=True, kw_only=True)
class Cancelled(Event):
    order: str


@dataclass(frozen=True)
class Line:
    order: Annotated[str, Key()]
    product: Annotated[str, Key()]
    price: Decimal = Decimal(1)


class Lines(GroupedProjection[Line]):
    name = "lines"

    @on(Ordered)
    def ordered(self, event: Ordered) -> list[Line]:
        return [Line(event.order, product) for product in event.products]

    @on(Priced)
    def priced(self, rows: tuple[Line, ...], event: Priced) -> list[Line]:
        if event.price == 13:
            raise ArithmeticError("unlucky")
        others = [row for row in rows if row.product != event.product]
        return [*others, Line(event.order, event.product, event.price)]

    @on(Cancelled)
    def cancelled(self, rows: tuple[Line, ...], event: Cancelled) -> None:
        """All are gone."""


class WrongLines(Lines):
    """Makes a row of another order."""

    name = "wrong_lines"
    other = "other"

    @on(Ordered)
    def ordered(self, event: Ordered) -> list[Line]:
        return [Line(event.order, "tea"), Line(self.other or event.order, "tea" if not self.other else "cup")]


@pytest.fixture
def synchronizer(engine: Engine, store: EventStore) -> ReadModelSynchronizer:
    return ReadModelSynchronizer(store, engine.read_database, batch_size=3, options=QUICK)


async def keys(lines: ReadModel[Line]) -> str:
    return " ".join(f"{row.order}:{row.product}={row.price:f}" for row in (await lines.page(page_size=1000)).items)


async def test_an_event_makes_changes_and_removes_rows_of_its_group(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    lines = synchronizer.add(Lines())
    await write(store, Ordered(order="a", products=("tea", "cup")), Ordered(order="b", products=("pot",)))
    await synchronizer.run_once(PATIENCE)
    assert await keys(lines) == "a:cup=1 a:tea=1 b:pot=1"
    await write(
        store,
        Priced(order="a", product="tea", price=Decimal(2)),
        Cancelled(order="b"),
        Priced(order="a", product="jug", price=Decimal(3)),
        Ordered(order="c", products=()),
    )
    await synchronizer.run_once(PATIENCE)
    assert await keys(lines) == "a:cup=1 a:jug=3 a:tea=2"
    assert await lines.get("a", "jug") == Line("a", "jug", Decimal(3))
    assert await lines.totals(by=["order"], of="price") == [Total(("a",), 3, (Decimal(6),))]


async def test_a_batch_is_folded_as_a_whole_and_what_it_undoes_is_never_written(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    lines = synchronizer.add(Lines())
    await write(
        store,
        Ordered(order="a", products=("tea",)),
        Cancelled(order="a"),
        Ordered(order="a", products=("cup",)),
        Priced(order="a", product="cup", price=Decimal(5)),
    )
    await synchronizer.run_once(PATIENCE)
    assert await keys(lines) == "a:cup=5"


async def test_a_failing_event_parks_the_later_ones_of_its_group_only(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    lines = synchronizer.add(Lines())
    await write(store, Ordered(order="a", products=("tea",)), Ordered(order="b", products=("tea",)))
    await write(
        store,
        Priced(order="a", product="tea", price=Decimal(13)),
        Priced(order="b", product="tea", price=Decimal(2)),
        Priced(order="a", product="cup", price=Decimal(4)),
    )
    await synchronizer.run_once(PATIENCE)
    assert await keys(lines) == "a:tea=1 b:tea=2"
    assert [(each.position, each.key) for each in await synchronizer.control("lines").parked()] == [
        (3, '["a"]'),
        (5, '["a"]'),
    ]
    async with running(synchronizer):
        await synchronizer.control("lines").skip(3, reason="a joke")
        while await synchronizer.control("lines").parked():
            await synchronizer.wait(await store.head(), PATIENCE)
    assert await keys(lines) == "a:cup=4 a:tea=1 b:tea=2"


@pytest.mark.parametrize("other", ["other", ""])
async def test_rows_of_another_group_and_two_of_one_key_are_a_failure(
    synchronizer: ReadModelSynchronizer, store: EventStore, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    monkeypatch.setattr(WrongLines, "other", other)
    lines = synchronizer.add(WrongLines())
    await write(store, Ordered(order="a", products=()))
    await synchronizer.run_once(PATIENCE)
    [parked] = await synchronizer.control("wrong_lines").parked()
    assert "each a key of its own" in parked.cause
    assert await keys(lines) == ""


async def test_a_group_is_divided_among_workers_as_one_and_rebuilt_with_a_sample_verified(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    lines = synchronizer.add(Lines())
    await synchronizer.prepare()
    await synchronizer.control("lines").scale(3)
    orders = [f"order {number}" for number in range(12)]
    await write(store, *(Ordered(order=each, products=("cup", "tea")) for each in orders))
    await write(store, *(Priced(order=each, product="tea", price=Decimal(2)) for each in orders))
    async with running(synchronizer):
        await synchronizer.wait(await store.head(), PATIENCE)
        assert (await lines.totals(by=["product"], of="price"))[1].sum == 24
        report = await synchronizer.rebuild_projection("lines", expect_same=True)
    assert (report.reason, report.missing, report.added) == ("", 0, 0)
    assert report.sampled > 5


async def test_a_row_whose_group_has_parked_events_is_said_to_be_stale_and_no_other(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    lines = synchronizer.add(Lines())
    await write(store, Ordered(order="a", products=("tea",)), Ordered(order="b", products=("pot",)))
    last = await write(store, Priced(order="a", product="tea", price=Decimal(13)))
    await synchronizer.run_once(PATIENCE)
    stale = {}
    for order, product in (("a", "tea"), ("b", "pot")):
        with Asking(WriteToken(last, None)) as asking:
            assert await lines.get(order, product) == Line(order, product)
        stale[order] = asking.stale
    assert stale == {"a": True, "b": False}


async def test_a_group_that_lost_all_its_rows_is_made_again_where_its_rows_are_remembered(store: EventStore) -> None:
    """On demand, nothing is tried twice, which would hide that a remembered group without rows fails at first."""
    synchronizer = ReadModelSynchronizer(store, scratch_database(), scratch=scratch_database)
    lines = synchronizer.add(Lines(), kind="on_demand")
    for event in (Ordered(order="a", products=("tea",)), Cancelled(order="a"), Ordered(order="a", products=("pot",))):
        await write(store, event)
        await keys(lines)
    assert await keys(lines) == "a:pot=1"
    await synchronizer.close()
