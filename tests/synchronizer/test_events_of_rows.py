"""The verification of a rebuild reads the events of the rows that it compares, and no others where tags find them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import count
from typing import Annotated, Any

import pytest
from tests.accounts import Balance, Balances, Deposited
from tests.synchronizing import PATIENCE, QUICK, deposited, opened, quick, running, write

from twofold import Event, EventQuery, EventStore, Key, Projection, ReadModelSynchronizer, Tag, event_type, on
from twofold.engines.engine import Engine
from twofold.errors import RebuildFailedError
from twofold.options import FoldOptions, LogOptions
from twofold.ports.event_log import Scan
from twofold.projections.kinds import ASYNCHRONOUS, runner_of
from twofold.projections.runner import RowRunner
from twofold.synchronizer.aside.events_of_rows import queries_of

ACCOUNTS = 300


@dataclass(frozen=True, kw_only=True)
class Untagged(Event):
    account: str


@event_type(version=2, upcasters={1: lambda old: old})
@dataclass(frozen=True, kw_only=True)
class Upcast(Event):
    account: Annotated[str, Tag("account")]


@dataclass(frozen=True)
class Row:
    account: Annotated[str, Key()]


class Plain(Projection[Row]):
    name = "plain"

    @on(Untagged)
    def untagged(self, event: Untagged) -> Row:
        return Row(event.account)


class Older(Projection[Row]):
    name = "older"

    @on(Upcast)
    def upcast(self, event: Upcast) -> Row:
        return Row(event.account)


@dataclass(frozen=True, kw_only=True)
class Picked(Event):
    order: Annotated[str, Tag("order")]
    line: int


@dataclass(frozen=True, kw_only=True)
class Packed(Event):
    order: str
    line: Annotated[int, Tag("line")]


@dataclass(frozen=True)
class Line:
    order: Annotated[str, Key()]
    line: Annotated[int, Key()]
    times: int = 0


class Lines(Projection[Line]):
    """A tag holds one part of the key: it finds the events of several rows."""

    name = "lines"

    @on(Picked, Packed)
    def counted(self, row: Line | None, event: Picked | Packed) -> Line:
        return Line(event.order, event.line, row.times + 1 if row else 1)


class ByOwnKey(Balances):
    def key(self, event: Any) -> str:
        return str(event.account)


class Unsteady(Balances):
    """Makes another row of the same events each time."""

    times = count()

    @on(Deposited)
    def deposited(self, row: Balance, event: Deposited) -> Balance:
        return replace(row, amount=Decimal(next(self.times)))


async def queries(engine: Engine, store: EventStore, projection: Projection[Any], *keys: Any) -> list[EventQuery]:
    runner = runner_of(projection, engine.read_database, 100, ASYNCHRONOUS, FoldOptions())
    assert runner.rows is not None
    rows: RowRunner = runner.rows
    wanted = [key if isinstance(key, tuple) else (key,) for key in keys]
    return [each.query for each in await queries_of(store, rows, wanted, 2)]


async def test_a_rebuild_reads_the_log_once_and_a_few_events_of_it_again(
    engine: Engine, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = ReadModelSynchronizer(store, engine.read_database, [Balances()], options=quick(finished_within=0))
    accounts = [f"a{number}" for number in range(ACCOUNTS)]
    await write(store, *map(opened, accounts))
    await write(store, *map(deposited, accounts))
    scanned, scan = 0, engine.log.scan

    async def counted(query: EventQuery, **window: Any) -> Scan:
        nonlocal scanned
        found = await scan(query, **window)
        scanned += len(found.rows)
        return found

    async with running(runner):
        await runner.wait(2 * ACCOUNTS, PATIENCE)
        monkeypatch.setattr(engine.log, "scan", counted)
        report = await runner.rebuild_projection("balances")
    assert report.reason == ""
    assert report.sampled > 5
    assert 2 * ACCOUNTS < scanned < 3.5 * ACCOUNTS  # all for the new rows, and two for each of a hundred rows at most


async def test_a_wrong_row_is_found_by_its_tags(engine: Engine, store: EventStore) -> None:
    runner = ReadModelSynchronizer(store, engine.read_database, [Unsteady()], options=QUICK)
    async with running(runner):
        await runner.wait(await write(store, opened("a"), opened("b"), deposited("b")), PATIENCE)
        with pytest.raises(RebuildFailedError, match="a fresh fold of the log gives"):
            await runner.rebuild_projection("balances")


async def test_events_that_a_tag_finds_for_other_rows_are_folded_once(engine: Engine, store: EventStore) -> None:
    runner = ReadModelSynchronizer(store, engine.read_database, [Lines()], options=quick(finished_within=0))
    lines = [(order, line) for order in "ab" for line in range(20)]
    async with running(runner):
        await write(store, *(Picked(order=order, line=line) for order, line in lines))
        await runner.wait(await write(store, *(Packed(order=order, line=line) for order, line in lines)), PATIENCE)
        report = await runner.rebuild_projection("lines")
    assert report.reason == ""
    assert report.sampled > 10


async def test_rows_that_the_same_tags_find_are_asked_for_once(engine: Engine, store: EventStore) -> None:
    await write(store, *(Picked(order=order, line=line) for order in "ab" for line in range(3)))
    [query] = await queries(engine, store, Lines(), *((order, line) for order in "ab" for line in range(3)))
    assert [item.tags for item in query.items] == [("order:a",), ("order:b",)]


async def test_rows_are_asked_for_by_the_tags_that_hold_their_keys(engine: Engine, store: EventStore) -> None:
    await write(store, opened("a"), deposited("a"), opened("b"))
    first, second = await queries(engine, store, Balances(), "a", "b", "c")
    assert [item.tags for item in (*first.items, *second.items)] == [("account:a",), ("account:b",), ("account:c",)]
    assert {name for item in first.items for name in item.types} == {"Opened", "Deposited"}  # no other type has events
    found = [row.position for row in await engine.log.read(first, limit=10)]
    assert found == [1, 2, 3]


async def test_all_events_are_asked_for_where_their_tags_do_not_tell_the_row(engine: Engine, store: EventStore) -> None:
    await write(store, opened("a"), Untagged(account="a"), Upcast(account="a"))
    assert await queries(engine, store, Plain(), "a") == [EventQuery.exactly(Untagged)]
    assert await queries(engine, store, Older(), "a") == [EventQuery.exactly(Upcast)]
    every = EventQuery.exactly(*Balances().handles())
    assert await queries(engine, store, ByOwnKey(), "a") == [every]
    assert await queries(engine, store, Balances()) == []


async def test_events_from_before_a_tag_are_not_overlooked(engine: Engine) -> None:
    @event_type("Opened")
    @dataclass(frozen=True, kw_only=True)
    class OpenedBefore(Event):
        account: str
        owner: str = "ann"

    await write(EventStore(engine.log), OpenedBefore(account="a"))
    later = EventStore(engine.log, options=LogOptions(changed_tags="ignore"))
    await write(later, opened("b"))
    assert await queries(engine, later, Balances(), "a", "b") == [EventQuery.exactly(*Balances().handles())]
