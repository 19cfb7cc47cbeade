"""One projection in each kind shows the same rows: those of a fold of the log in memory."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.kinds import fresh
from tests.synchronizing import PATIENCE, engine_at, running, write

from twofold import Event, EventStore, FullText, Index, Key, Projection, ReadModel, ReadModelSynchronizer, Tag, on
from twofold.engines.engine import scratch_database
from twofold.errors import ProjectionFailedError


@dataclass(frozen=True, kw_only=True)
class Listed(Event):
    account: Annotated[str, Tag("account")]
    title: str


@dataclass(frozen=True, kw_only=True)
class Counted(Event):
    account: Annotated[str, Tag("account")]
    number: int


@dataclass(frozen=True, kw_only=True)
class Removed(Event):
    account: Annotated[str, Tag("account")]


@dataclass(frozen=True, kw_only=True)
class Unrelated(Event):
    account: Annotated[str, Tag("account")]


@dataclass(frozen=True)
class Item:
    account: Annotated[str, Key()]
    title: Annotated[str, FullText()] = ""
    number: Annotated[int, Index()] = 0
    places: tuple[int, ...] = ()


class Items(Projection[Item]):
    """Makes, changes and deletes rows; refuses what would be below zero."""

    name = "items"

    @on(Listed)
    def listed(self, row: Item | None, event: Listed) -> Item:
        return replace(row or Item(event.account), title=event.title)

    @on(Counted)
    def counted(self, row: Item | None, event: Counted, recorded: Any) -> Item:
        row = row or Item(event.account)
        if row.number + event.number < 0:
            raise ValueError("there are not so many")
        return replace(row, number=row.number + event.number, places=(*row.places, recorded.position))

    @on(Removed)
    def removed(self, row: Item | None, event: Removed) -> None:
        return None


accounts = st.sampled_from("abcdef")
events = st.one_of(
    st.builds(Listed, account=accounts, title=st.sampled_from(["tea", "green tea", "Ärmel"])),
    st.builds(Counted, account=accounts, number=st.integers(-3, 5)),
    st.builds(Removed, account=accounts),
    st.builds(Unrelated, account=accounts),
)
appends = st.lists(st.lists(events, min_size=1, max_size=4), max_size=12)


async def rows(model: ReadModel[Item]) -> dict[str, Item]:
    return {row.account: row for row in (await model.page(page_size=100)).items}


async def compare(url: str, batches: Sequence[Sequence[Event]], segments: int, batch_size: int) -> None:
    """Append with an inline projection and without, and compare all kinds with a fold in memory after each append."""
    async with engine_at(url) as (engine, _):
        store = EventStore(engine.log)
        synchronizer = ReadModelSynchronizer(
            store, engine.read_database, batch_size=batch_size, scratch=scratch_database
        )
        inline = synchronizer.add(Items(), kind="inline")
        live = synchronizer.add(Named("live_items"), kind="on_demand")
        soon = synchronizer.add(Named("soon_items"))
        await synchronizer.prepare()
        await synchronizer.control("soon_items").scale(segments)
        for batch in batches:
            head = await store.head()
            try:
                await store.append(batch)
            except ProjectionFailedError:
                assert await store.head() == head
            expected = await fresh(store, Items())
            assert await rows(inline) == expected
            assert await rows(live) == expected
        async with running(synchronizer):
            await synchronizer.wait(await store.head(), PATIENCE)
        assert await rows(soon) == await fresh(store, Items())
        await synchronizer.close()


class Named(Items):
    """The same under another name, as one database has one read model of a name."""

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=appends, segments=st.sampled_from([1, 3]), batch_size=st.sampled_from([1, 3, 1000]))
def test_all_kinds_show_what_a_fold_in_memory_gives_on_sqlite(
    batches: Sequence[Sequence[Event]], segments: int, batch_size: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(compare(f"sqlite:///{folder}/kinds.db", batches, segments, batch_size))


def test_all_kinds_show_what_a_fold_in_memory_gives_on_postgres(postgres_server: Callable[[int], Any]) -> None:
    server = postgres_server(18)

    @settings(max_examples=15, deadline=None)
    @given(batches=appends, segments=st.sampled_from([1, 3]), batch_size=st.sampled_from([1, 3, 1000]))
    def all_show_the_same(batches: Sequence[Sequence[Event]], segments: int, batch_size: int) -> None:
        with ExitStack() as databases:
            asyncio.run(compare(databases.enter_context(server.database()), batches, segments, batch_size))

    all_show_the_same()


@pytest.mark.parametrize("kind", ["asynchronous", "inline", "on_demand"])
async def test_each_kind_answers_every_question(engine: Any, store: EventStore, kind: Any) -> None:
    synchronizer = ReadModelSynchronizer(store, engine.read_database, scratch=scratch_database)
    items = synchronizer.add(Items(), kind=kind)
    async with running(synchronizer):
        await synchronizer.prepare()
        titles = {"a": "green tea", "b": "tea", "c": "Ärmel"}
        await write(store, *(Listed(account=account, title=title) for account, title in titles.items()))
        position = await write(store, *(Counted(account=account, number=n) for n, account in enumerate("abc")))
        await synchronizer.wait(position, PATIENCE)
        assert {row.account for row in (await items.page(search="TEA")).items} == {"a", "b"}
        page = await items.page(where=[("number", ">=", 1)], sort="number", descending=True, page_size=1)
        assert [row.account for row in page.items] == ["c"]
        rest = await items.page(where=[("number", ">=", 1)], sort="number", descending=True, cursor=page.next_cursor)
        assert [row.account for row in rest.items] == ["b"]
        [total] = await items.totals(by=[], of="number")
        assert (total.count, total.sum) == (3, 3)
        assert await items.get("c") == Item("c", "Ärmel", 2, (6,))
    await synchronizer.close()
